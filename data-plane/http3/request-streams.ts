import { QUARTER_ID_BEYOND_ANY_LIMIT, QUARTER_ID_MALFORMED } from './datagram.ts';
import { H3_DATAGRAM_ERROR, H3_ID_ERROR, Http3ConnectionError } from './error-codes.ts';
import type { Http3ConnectionOptions, Http3Role } from './http3-endpoint.ts';
import { RecentStreams } from './recent-streams.ts';
import type { RequestStream } from './request-stream.ts';

/** Request streams open at once when the options do not say; ours. A VPN client needs one. */
const DEFAULT_MAX_REQUEST_STREAMS = 100;

/** The request streams of a connection: those that are open, those that closed last, and whether there may be more. */
export class RequestStreams {
  /** By stream id; changed here only. */
  readonly open: ReadonlyMap<number, RequestStream>;
  readonly #role: Http3Role;
  readonly #open = new Map<number, RequestStream>();
  readonly #recentlyClosed = new RecentStreams();
  readonly #maxOpen: number;
  readonly #initialStreamLimit: number;
  /** Server: how many the peer opened. */
  #seen = 0;
  #highest = -4;
  /** Server: the first that is not served. */
  #firstRefused = Number.POSITIVE_INFINITY;

  constructor(role: Http3Role, { maxRequestStreams, initialStreamLimit }: Http3ConnectionOptions) {
    this.#role = role;
    this.open = this.#open;
    this.#maxOpen = maxRequestStreams ?? DEFAULT_MAX_REQUEST_STREAMS;
    this.#initialStreamLimit = initialStreamLimit ?? Number.POSITIVE_INFINITY;
  }

  /** What becomes of a stream that is not open and of which bytes came. `late`: it is closed, or no peer's to open. */
  judge(streamId: number): 'served' | 'late' | 'refused' | 'too_many' {
    if (this.#role === 'client' || this.#recentlyClosed.has(streamId)) return 'late';
    this.#seen++;
    const tooMany = this.#open.size >= this.#maxOpen;
    if (tooMany || streamId >= this.#firstRefused) {
      this.#recentlyClosed.add(streamId);
      return tooMany ? 'too_many' : 'refused';
    }
    this.#highest = Math.max(this.#highest, streamId);
    return 'served';
  }

  add(stream: RequestStream): void {
    this.#open.set(stream.id, stream);
  }

  /** It is closed in both directions. */
  forget(stream: RequestStream): void {
    stream.discard();
    this.#open.delete(stream.id);
    this.#recentlyClosed.add(stream.id);
  }

  forgetAll(): void {
    for (const stream of this.#open.values()) stream.discard();
    this.#open.clear();
  }

  wasClosed(streamId: number): boolean {
    return this.#recentlyClosed.has(streamId);
  }

  /** Server: streams above the highest one that is served are refused from here on. Answers the first of them. */
  refuseNew(): number {
    this.#firstRefused = this.#highest + 4;
    return this.#firstRefused;
  }

  /** What is wrong with a datagram for a stream that is not open (RFC 9297 2.1); undefined where it may only be early or late. */
  datagramError(streamId: number): Http3ConnectionError | undefined {
    if (streamId === QUARTER_ID_MALFORMED) {
      return new Http3ConnectionError(H3_DATAGRAM_ERROR, 'a datagram has no quarter stream id below 2^60');
    }
    // QUIC raises the limit by one for each stream that closed, so it is at most the initial one plus all seen.
    const isBeyond = this.#role === 'server' && streamId / 4 >= this.#initialStreamLimit + this.#seen;
    if (streamId !== QUARTER_ID_BEYOND_ANY_LIMIT && !isBeyond) return undefined;
    return new Http3ConnectionError(H3_ID_ERROR, 'a datagram is for a stream beyond the stream limit');
  }
}
