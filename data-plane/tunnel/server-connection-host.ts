import type { Transport } from '../../shared/events/node-events.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import type { ServerConnection } from './server-connection.ts';
import type { TunnelHost } from './tunnel-host.ts';
import type { FailureReport } from './tunnel-messages.ts';

/** What a connection asks of the server that it belongs to. */
export interface ServerConnectionHost extends TunnelHost {
  /** The names that requests may be made to; any where there are none. */
  readonly authorities: readonly string[];
  readonly draining: boolean;
  /**
   * Asks who may connect, and tells which addresses the client would like; the answer comes as `accept` or `reject` with the number that
   * is returned.
   */
  requestTunnel(
    connection: ServerConnection,
    request: AcceptedRequest,
    transport: Transport,
    wishedAddresses: readonly string[],
  ): number;
  /** Nobody waits for the answer any more. */
  requestAbandoned(requestId: number): void;
  requestFailed(report: FailureReport): void;
}
