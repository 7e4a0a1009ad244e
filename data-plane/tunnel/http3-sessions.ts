import type { Http3Session } from './http3-session.ts';

/** The WebTransport sessions of a connection, by each of their streams: that of the request, and that of the capsules. */
export class Http3Sessions {
  readonly #byStream = new Map<number, Http3Session>();

  /** The session that a stream is of. */
  get(streamId: number): Http3Session | undefined {
    return this.#byStream.get(streamId);
  }

  add(session: Http3Session): void {
    this.#byStream.set(session.requestStreamId, session);
  }

  /** The client opened a stream in a session; false where there is no such session, or it has one. */
  streamOpened(streamId: number, sessionId: number): boolean {
    const session = this.#byStream.get(sessionId);
    if (session?.requestStreamId !== sessionId || !session.streamOpened(streamId)) return false;
    this.#byStream.set(streamId, session);
    return true;
  }

  /** The session of that request is over. */
  forget(requestStreamId: number): void {
    const session = this.#byStream.get(requestStreamId);
    this.#byStream.delete(requestStreamId);
    if (session?.transport.streamId !== undefined) this.#byStream.delete(session.transport.streamId);
  }

  /** Those whose client has not opened the stream of the capsules in time are ended; how many. */
  sweep(nowMs: number): number {
    return [...this.#byStream.values()].filter((session) => session.sweep(nowMs)).length;
  }
}
