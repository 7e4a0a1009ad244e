import { EventEmitter } from 'node:events';
import { constants, type ServerHttp2Stream } from 'node:http2';
import { Http3StreamError } from '../http3/error-codes.ts';
import { type TlvHandler, TlvReader, type TlvTreatment } from '../http3/tlv-reader.ts';
import { readVarint, VARINT_TRUNCATED, varintLength } from '../http3/varint.ts';
import { CAPSULE_DATAGRAM, encodeCapsule, malformedCapsule } from '../masque/capsule.ts';
import { MAX_CAPSULE_BYTES, oversizedCapsule } from '../masque/capsule-treatment.ts';
import { TUNNEL_RESPONSE_FIELDS } from '../masque/connect-ip-response.ts';
import {
  MAX_CLOSE_BYTES,
  readCloseCode,
  SESSION_CLOSE,
  SESSION_MAX_DATA,
  SESSION_MAX_STREAM_DATA,
  SESSION_RESET_STREAM,
  SESSION_STOP_SENDING,
  SESSION_STREAM,
  SESSION_STREAM_FIN,
} from './session-capsule.ts';

export interface GuardEvents {
  /** The client closed the session or its stream, with this code. */
  onClientClose(code: number): void;
  /** The client broke the rules. */
  onError(error: Http3StreamError): void;
}

/** Two of the longest varints. */
const MAX_CONTROL_BYTES = 16;
/** What the package writes in pieces is sent together up to this; ours, the size of an HTTP/2 frame. */
const FLUSH_BYTES = 16_384;
/** The first bidirectional stream that a client opens, as the package numbers them. */
const STREAM_ID = 1;

/**
 * Stands between the HTTP/2 stream of a session and the package, whose parser throws on some malformed capsules, copies again
 * what comes byte by byte, and keeps all it is given: only whole capsules pass that a session with a tunnel needs, of bounded
 * size. Towards the client, what the package writes in pieces leaves in few HTTP/2 frames, and `room` tells when it must wait.
 */
export class GuardedStream extends EventEmitter implements TlvHandler {
  readonly #stream: ServerHttp2Stream;
  #events: GuardEvents | undefined;
  readonly #reader = new TlvReader(this);
  readonly #incoming: Buffer[] = [];
  #outgoing: Uint8Array[] = [];
  #outgoingBytes = 0;
  #room: PromiseWithResolvers<void> | undefined;
  #ended = false;

  constructor(stream: ServerHttp2Stream) {
    super();
    this.#stream = stream;
    stream.on('drain', () => {
      this.#settleRoom();
      this.emit('drain');
    });
    // Its 'close' follows, which is all that the package has to know.
    stream.on('error', () => {});
    stream.on('close', () => {
      this.#stop();
      this.#settleRoom();
      this.emit('close');
    });
  }

  /** Resolves when the client takes more; undefined while it does. What is sent without waiting stays in memory. */
  get room(): Promise<void> | undefined {
    return this.#room?.promise;
  }

  /** Reads what the client sends, from now on. */
  start(events: GuardEvents): void {
    this.#events = events;
    this.#stream.on('data', (bytes: Buffer) => this.#receive(bytes));
    this.#stream.on('end', () => this.#end(() => this.#events?.onClientClose(0)));
  }

  /** Whether the HTTP/2 stream is gone. */
  get closed(): boolean {
    return this.#stream.closed;
  }

  // --- what the package uses of an HTTP/2 stream

  get session(): ServerHttp2Stream['session'] {
    return this.#stream.session;
  }

  get rstCode(): number {
    return this.#stream.rstCode ?? 0;
  }

  respond(headers: Record<string, string>): void {
    this.#stream.respond({ ...headers, ...Object.fromEntries(TUNNEL_RESPONSE_FIELDS) });
  }

  read(): Buffer | null {
    return this.#incoming.shift() ?? null;
  }

  write(bytes: Uint8Array): boolean {
    if (this.#outgoing.length === 0) process.nextTick(() => this.#flush());
    this.#outgoing.push(bytes);
    this.#outgoingBytes += bytes.length;
    if (this.#outgoingBytes >= FLUSH_BYTES) this.#flush();
    return this.#room === undefined;
  }

  end(bytes: Uint8Array, done: () => void): void {
    this.write(bytes);
    this.#flush();
    this.#stream.end(done);
  }

  /** The package would give the session's code to HTTP/2, whose codes mean other things. */
  close(): void {
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  destroy(): void {}

  // --- from the client

  onHeader(type: number, length: number): TlvTreatment {
    const limit = sizeLimit(type);
    if (limit === undefined) return 'skip';
    if (length <= limit) return 'whole';
    if (limit === MAX_CAPSULE_BYTES) throw oversizedCapsule(type);
    throw malformedCapsule(`a capsule of ${length} bytes, more than ${limit}`);
  }

  onWhole(type: number, value: Uint8Array): void {
    switch (type) {
      case CAPSULE_DATAGRAM:
        this.#pass(type, value);
        return;
      case SESSION_STREAM:
      case SESSION_STREAM_FIN:
        if (readId(value) !== STREAM_ID) throw malformedCapsule('another stream than the one of the tunnel');
        this.#pass(type, value);
        return;
      case SESSION_MAX_DATA:
        readId(value);
        this.#pass(type, value);
        return;
      case SESSION_MAX_STREAM_DATA:
        readId(value.subarray(varintLength(value[0] ?? 0)));
        if (readId(value) === STREAM_ID) this.#pass(type, value);
        return;
      case SESSION_RESET_STREAM:
      case SESSION_STOP_SENDING:
        if (readId(value) !== STREAM_ID) return;
        this.#closed(0);
        return;
      case SESSION_CLOSE: {
        const code = readCloseCode(value);
        if (code === undefined) throw malformedCapsule('a close without a code');
        this.#closed(code);
      }
    }
  }

  onPiece(): void {}

  #receive(bytes: Buffer): void {
    if (this.#ended) return;
    try {
      this.#reader.push(bytes);
      this.#deliver();
    } catch (error) {
      // The package's own errors too: they must cost this session and no other.
      const own = error instanceof Http3StreamError ? error : malformedCapsule('a capsule that cannot be read');
      this.#end(() => this.#events?.onError(own));
    }
  }

  #pass(type: number, value: Uint8Array): void {
    this.#incoming.push(Buffer.from(encodeCapsule(type, value).buffer));
  }

  /** The client closed the session; what it sent before is still read. */
  #closed(code: number): void {
    this.#deliver();
    this.#end(() => this.#events?.onClientClose(code));
  }

  #deliver(): void {
    if (this.#incoming.length > 0) this.emit('readable');
  }

  #end(tell: () => void): void {
    if (this.#ended) return;
    this.#stop();
    tell();
  }

  #stop(): void {
    this.#ended = true;
    this.#reader.stop();
    this.#incoming.length = 0;
  }

  // --- to the client

  #flush(): void {
    if (this.#outgoing.length === 0) return;
    const bytes = Buffer.concat(this.#outgoing, this.#outgoingBytes);
    this.#outgoing = [];
    this.#outgoingBytes = 0;
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    if (!this.#stream.write(bytes)) this.#room ??= Promise.withResolvers();
  }

  #settleRoom(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}

/** Bytes of the value of a capsule that is looked at; undefined for those that are read over. */
function sizeLimit(type: number): number | undefined {
  switch (type) {
    case CAPSULE_DATAGRAM:
    case SESSION_STREAM:
    case SESSION_STREAM_FIN:
      return MAX_CAPSULE_BYTES;
    case SESSION_MAX_DATA:
    case SESSION_MAX_STREAM_DATA:
    case SESSION_RESET_STREAM:
    case SESSION_STOP_SENDING:
      return MAX_CONTROL_BYTES;
    case SESSION_CLOSE:
      return MAX_CLOSE_BYTES;
    default:
      return undefined;
  }
}

function readId(value: Uint8Array): number {
  const id = readVarint(value, 0, value.length);
  if (id === VARINT_TRUNCATED) throw malformedCapsule('a capsule that is cut off');
  return id;
}
