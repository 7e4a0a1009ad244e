import { Duplex } from 'node:stream';
import type { WebTransportSession } from '@fails-components/webtransport';
import { H3_REQUEST_INCOMPLETE, Http3StreamError } from '../http3/error-codes.ts';
import { TlvReader } from '../http3/tlv-reader.ts';
import { CAPSULE_DATAGRAM, encodeCapsule, malformedCapsule } from '../masque/capsule.ts';
import { ForwardedCapsules } from './forwarded-capsules.ts';

/** How long a session may be open before its client has opened the stream (ours). */
export const STREAM_TIMEOUT_MS = 10_000;
/** What a client sent and the packet thread did not take yet, in bytes, before more packets of it are dropped (ours). */
const MAX_READABLE_BYTES = 256 * 1024;

/** What a session is carried by. */
export interface SessionCarrier {
  /** Resolves when the client takes more; undefined while it does. */
  readonly room: Promise<void> | undefined;
  /** Whether it is gone. A session that ends without that was given up by the package. */
  readonly closed: boolean;
}

/**
 * A WebTransport session as one stream of capsules in both directions, which is what CONNECT-IP over HTTP/2 is: DATAGRAM capsules are the
 * session's datagrams, all others the content of the bidirectional stream that the client opens. The end of the stream is the session's,
 * either way; destroyed with an
 * Http3StreamError, it closes the session with its wire code and its message. `dropped` tells of each packet of the client that found no room.
 */
export class SessionCapsules extends Duplex {
  readonly #session: WebTransportSession;
  readonly #carrier: SessionCarrier;
  readonly #datagrams: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stream = Promise.withResolvers<WritableStreamDefaultWriter<Uint8Array>>();
  readonly #timer: NodeJS.Timeout;
  readonly #toClient = new TlvReader({
    onHeader: () => 'whole',
    onWhole: (type, value) => this.#send(type, value),
    onPiece: () => {},
  });
  /** The last of what was written. */
  #sent: Promise<unknown> = Promise.resolve();
  #taken: PromiseWithResolvers<void> | undefined;
  #clientEnded = false;
  #sessionOver = false;
  #readingEnded = false;

  constructor(session: WebTransportSession, carrier: SessionCarrier, streamTimeoutMs = STREAM_TIMEOUT_MS) {
    super({ readableHighWaterMark: MAX_READABLE_BYTES });
    this.#session = session;
    this.#carrier = carrier;
    this.#datagrams = session.datagrams.createWritable().getWriter();
    this.#timer = setTimeout(() => {
      const late = new Http3StreamError(H3_REQUEST_INCOMPLETE, 'the client opened no stream', {
        limit: 'request_time',
      });
      // What was written meanwhile waits for the stream, also where the client has left.
      this.destroy(this.#sessionOver ? undefined : late);
    }, streamTimeoutMs);
    this.#watch(session.ready);
    this.#watch(this.#stream.promise);
    this.#watch(this.#datagrams.closed);
    this.#watch(this.#readDatagrams());
    this.#watch(this.#readStream());
    session.closed.then(
      ({ reason }: { reason: string }) => this.#sessionClosed(reason),
      () => this.#sessionClosed('the session failed'),
    );
  }

  /** Whether the client ended the session or its stream, by which the tunnel ends in good order. */
  get clientEnded(): boolean {
    return this.#clientEnded;
  }

  /** The client sends nothing more. */
  endFromClient(): void {
    this.#clientEnded = true;
    this.#endReading();
  }

  #sessionClosed(reason: string): void {
    this.#sessionOver = true;
    if (this.#carrier.closed || this.writableEnded) this.#endReading();
    else this.destroy(malformedCapsule(reason));
  }

  /** What the client sent until now is on its way through promises, and comes first. */
  #endReading(): void {
    setImmediate(() => {
      if (this.#readingEnded || this.destroyed) return;
      this.#readingEnded = true;
      this.push(null);
    });
  }

  // --- from the client

  async #readDatagrams(): Promise<void> {
    for await (const datagram of this.#session.datagrams.readable) {
      if (this.readableLength + datagram.length > MAX_READABLE_BYTES) this.emit('dropped');
      else this.#receive(encodeCapsule(CAPSULE_DATAGRAM, datagram));
    }
  }

  async #readStream(): Promise<void> {
    const { value: stream } = await this.#session.incomingBidirectionalStreams.getReader().read();
    clearTimeout(this.#timer);
    if (stream === undefined) return;
    this.#stream.resolve(stream.writable.getWriter());
    const capsules = new ForwardedCapsules((capsule) => this.#receive(capsule));
    for await (const bytes of stream.readable) {
      capsules.push(bytes);
      if (this.readableLength < MAX_READABLE_BYTES) continue;
      this.#taken ??= Promise.withResolvers();
      await this.#taken.promise;
    }
    capsules.end();
    this.endFromClient();
  }

  #receive(capsule: Uint8Array): void {
    if (!this.#readingEnded && !this.destroyed) this.push(capsule);
  }

  override _read(): void {
    this.#taken?.resolve();
    this.#taken = undefined;
  }

  // --- to the client

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#toClient.push(chunk);
    const sent = this.#sent.then(() => this.#carrier.room);
    sent.then(() => done(), done);
  }

  #send(type: number, value: Uint8Array): void {
    // The package keeps what it is given until it is sent.
    if (type === CAPSULE_DATAGRAM) this.#sent = this.#datagrams.write(value.slice());
    else {
      const capsule = encodeCapsule(type, value);
      this.#sent = this.#stream.promise.then((stream) => stream.write(capsule));
    }
    this.#watch(this.#sent);
  }

  // --- ends

  override _final(done: (error?: Error | null) => void): void {
    this.#session.close({ closeCode: 0, reason: '' });
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer);
    const [closeCode, reason] = error instanceof Http3StreamError ? [error.wireCode, error.message] : [0, ''];
    this.#session.close({ closeCode, reason });
    this.#stream.reject(error ?? new Error('the session is closed'));
    this._read();
    done(error);
  }

  /** What fails because the session is over says nothing: its own end is told already. */
  #watch(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      if (error instanceof Http3StreamError) this.destroy(error);
    });
  }
}
