import type { Http3Connection } from '../http3/http3-connection.ts';

/** Between the first GOAWAY and the one that names the last request (ours): a round trip, by far (RFC 9114 5.2). */
const GOAWAY_INTERVAL_MS = 1_000;

/** How a connection says goodbye (RFC 9114 5.2): that it will go away, and after a while which request is the last. */
export class ConnectionShutdown {
  readonly #http3: Http3Connection;
  #said: 'nothing' | 'first' | 'last' = 'nothing';
  #firstMs = 0;

  constructor(http3: Http3Connection) {
    this.#http3 = http3;
  }

  announce(): void {
    if (this.#said !== 'nothing') return;
    this.#said = 'first';
    this.#firstMs = performance.now();
    this.#http3.announceShutdown();
  }

  refuseNewRequests(): void {
    if (this.#said === 'last') return;
    this.#said = 'last';
    this.#http3.refuseNewRequests();
  }

  sweep(nowMs: number): void {
    if (this.#said === 'first' && nowMs - this.#firstMs >= GOAWAY_INTERVAL_MS) this.refuseNewRequests();
  }
}
