import { describeError } from '../shared/errors.ts';
import type { Logger } from '../shared/log/logger.ts';
import type { Admission, TunnelRequest } from './admission.ts';
import type { ConnectionFailure } from './telemetry/failure-folding.ts';
import type { ServerThreadCommand } from './tunnel/tunnel-messages.ts';

/** Where a request came from, and its answer goes. */
export interface RequestOrigin {
  /** May throw what keeps the tunnel from being opened. */
  accept(answer: Extract<ServerThreadCommand, { type: 'accept' }>): void;
  reject(answer: Extract<ServerThreadCommand, { type: 'reject' }>): void;
}

export interface TunnelRequestsOptions {
  readonly admission: Admission;
  readonly log: Logger;
  /** A request came to nothing. */
  readonly onFailed: (failure: ConnectionFailure) => void;
  /** A request was answered, in whichever way. */
  readonly onAnswered: () => void;
}

/** Requests for tunnels, from packet threads and web threads: each is decided, and the answer goes where it came from. */
export class TunnelRequests {
  readonly #options: TunnelRequestsOptions;

  constructor(options: TunnelRequestsOptions) {
    this.#options = options;
  }

  async admit(request: TunnelRequest, origin: RequestOrigin): Promise<void> {
    const { admission, log, onFailed, onAnswered } = this.#options;
    try {
      const { answer, failure } = await admission.decide(request);
      if (failure !== undefined) onFailed(failure);
      if (answer.type === 'reject') origin.reject(answer);
      else this.#open(answer, origin);
    } catch (error) {
      log.error({ err: error }, 'a request cannot be decided');
      const { requestId, remoteAddress } = request;
      const reason = 'the request cannot be decided';
      onFailed({ remoteAddress, clientId: null, status: 500, reason, errorType: 'connection' });
      origin.reject({ type: 'reject', requestId, status: 500 });
    } finally {
      onAnswered();
    }
  }

  /** Throws what keeps the tunnel from being opened, once its end is on its way to the record. */
  #open(answer: Extract<ServerThreadCommand, { type: 'accept' }>, origin: RequestOrigin): void {
    try {
      origin.accept(answer);
    } catch (error) {
      void this.#options.admission.unopened(answer, 'error', describeError(error));
      throw error;
    }
  }
}
