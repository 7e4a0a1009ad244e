import type { Socket } from 'node:net';
import { awaitChannelEnd } from '../http2/await-channel-end.ts';
import { destroyLater } from '../http2/destroy-later.ts';
import { LAST_BYTES_TIMEOUT_MS } from '../http2/http2-limits.ts';
import { H3_INTERNAL_ERROR, Http3StreamError } from '../http3/error-codes.ts';
import type { WebTunnels } from '../web-thread/web-tunnels.ts';
import type { SessionCapsules } from './session-capsules.ts';

/** The byte channel to the packet thread of a session that was let in, and the session, once it is open. */
export class SessionChannel {
  readonly connectionId: string;
  readonly #socket: Socket;
  readonly #tunnels: WebTunnels;
  #capsules: SessionCapsules | undefined;

  /** Takes over the socket. */
  constructor(connectionId: string, socket: Socket, tunnels: WebTunnels) {
    this.connectionId = connectionId;
    this.#socket = socket;
    this.#tunnels = tunnels;
    // What goes wrong with it shows by its end.
    socket.on('error', () => {});
    socket.once('close', () => this.#closed());
  }

  /** Whether the client has ended the session, of which the packet thread hears by the end of the bytes. */
  get clientEnded(): boolean {
    return this.#capsules?.clientEnded === true;
  }

  join(capsules: SessionCapsules): void {
    const socket = this.#socket;
    this.#capsules = capsules;
    capsules.on('dropped', () => this.#tunnels.drops.count('queue_full'));
    capsules.on('error', (error) => {
      if (error instanceof Http3StreamError) this.#tunnels.limits.count(error.limit);
      this.#tunnels.lost(this.connectionId, 'error', error.message);
    });
    capsules.once('close', () => {
      if (!socket.destroyed) awaitChannelEnd(socket);
    });
    capsules.once('end', () => {
      if (!capsules.clientEnded) return;
      socket.end();
      destroyLater(capsules, LAST_BYTES_TIMEOUT_MS);
    });
    socket.pipe(capsules);
    capsules.pipe(socket, { end: false });
    // It was closed while the session was being opened.
    if (socket.destroyed) this.#closed();
  }

  abort(errorCode: number): void {
    this.#socket.destroy();
    this.#capsules?.destroy(new Http3StreamError(errorCode, ''));
  }

  /** The session is gone. False when the packet thread knows that already. */
  leave(): boolean {
    const socket = this.#socket;
    if (socket.destroyed || socket.readableEnded) {
      socket.destroy();
      return false;
    }
    awaitChannelEnd(socket);
    return true;
  }

  /** Both threads have closed their ends, or the packet thread is gone. */
  #closed(): void {
    this.#tunnels.forget(this.connectionId);
    const capsules = this.#capsules;
    if (capsules?.writableEnded === false) capsules.destroy(new Http3StreamError(H3_INTERNAL_ERROR, ''));
  }
}
