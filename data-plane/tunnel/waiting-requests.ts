import type { Transport } from '../../shared/events/node-events.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import type { ServerConnection } from './server-connection.ts';
import type { ServerThreadCommand, ServerThreadReport } from './tunnel-messages.ts';

/** Requests for tunnels over QUIC that wait for the main thread to decide. */
export class WaitingRequests {
  readonly #report: (report: ServerThreadReport) => void;
  readonly #connections = new Map<number, ServerConnection>();
  #next = 1;

  constructor(report: (report: ServerThreadReport) => void) {
    this.#report = report;
  }

  /** Asks, and returns the number that the answer will have. */
  ask(
    connection: ServerConnection,
    { token, target, protocol }: AcceptedRequest,
    transport: Transport,
    wishedAddresses: readonly string[],
  ): number {
    const requestId = this.#next++;
    this.#connections.set(requestId, connection);
    const { host: remoteAddress, port: remotePort } = connection.peer;
    this.#report({
      type: 'request',
      requestId,
      transport,
      remoteAddress,
      remotePort,
      token: token?.value ?? null,
      target,
      protocol,
      wishedAddresses,
    });
    return requestId;
  }

  /** Nobody waits for the answer any more. */
  abandon(requestId: number): void {
    this.#connections.delete(requestId);
  }

  accept(command: Extract<ServerThreadCommand, { type: 'accept' }>): void {
    if (this.#take(command.requestId)?.accept(command) !== true) this.#reportUnused(command);
  }

  reject({ requestId, status, proxyError }: Extract<ServerThreadCommand, { type: 'reject' }>): void {
    this.#take(requestId)?.reject(requestId, status, proxyError);
  }

  #take(requestId: number): ServerConnection | undefined {
    const connection = this.#connections.get(requestId);
    this.#connections.delete(requestId);
    return connection;
  }

  // The client left while the main thread decided: its address and its events are there and must end.
  #reportUnused({ connectionId, clientId }: Extract<ServerThreadCommand, { type: 'accept' }>): void {
    const totals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
    const detail = 'left before the tunnel was open';
    this.#report({ type: 'closed', connectionId, clientId, reason: 'client', detail, durationMs: 0, totals });
  }
}
