import { randomInt } from 'node:crypto';
import { decodeSocketAddress, parseSocketAddress, type SocketAddress } from './socket-address.ts';

/** Peers kept by default (ours). A peer that was pushed out costs one more decoding, about 2 us, and nothing else. */
export const DEFAULT_CACHED_PEERS = 4096;

/** Places where one peer can be: a few more than one, so that two busy peers with the same hash do not push each other out. */
const WAYS = 4;

/** Words of a sockaddr_in6: family and port, flow info (not part of the identity), address, scope. */
const FAMILY_AND_PORT = 0;
const FIRST_ADDRESS_WORD = 1;

/**
 * Peers seen before, found by comparing the words of the kernel's sockaddr: no text is decoded and nothing is allocated. Its
 * size is fixed, so addresses made up by strangers push each other out and cost no memory; the hash is seeded per process.
 */
export class SocketAddressCache {
  readonly #sets: number;
  readonly #peers: (SocketAddress | undefined)[];
  readonly #words: Int32Array;
  readonly #byText = new Map<string, SocketAddress>();
  readonly #maxTexts: number;
  readonly #seed = randomInt(0x7fffffff);
  #victim = 0;

  constructor(maxPeers: number = DEFAULT_CACHED_PEERS) {
    this.#sets = 2 ** Math.ceil(Math.log2(Math.max(1, maxPeers / WAYS)));
    this.#peers = new Array<SocketAddress | undefined>(this.#sets * WAYS).fill(undefined);
    this.#words = new Int32Array(this.#sets * WAYS * 6);
    this.#maxTexts = this.#sets * WAYS;
  }

  /**
   * The peer whose sockaddr is in `words`, from word `at` on: 4 words of sockaddr_in or 7 of sockaddr_in6, the rest is not
   * read. Throws InvalidSocketAddressError for another family.
   */
  fromWords(words: Int32Array, at: number): SocketAddress {
    const familyAndPort = words[at + FAMILY_AND_PORT]!;
    const v6 = (familyAndPort & 0xffff) === 10;
    const a = words[at + (v6 ? 2 : FIRST_ADDRESS_WORD)]!;
    const b = v6 ? words[at + 3]! : 0;
    const c = v6 ? words[at + 4]! : 0;
    const d = v6 ? words[at + 5]! : 0;
    const scope = v6 ? words[at + 6]! : 0;
    const known = this.#words;
    const first = this.#setOf(familyAndPort, a, b, c, d, scope) * WAYS;
    for (let way = first; way < first + WAYS; way++) {
      const w = way * 6;
      if (
        known[w] === familyAndPort &&
        known[w + 1] === a &&
        known[w + 2] === b &&
        known[w + 3] === c &&
        known[w + 4] === d &&
        known[w + 5] === scope
      ) {
        const peer = this.#peers[way];
        if (peer !== undefined) return peer;
      }
    }
    const peer = decodeSocketAddress(new Uint8Array(words.buffer, words.byteOffset), at * 4);
    const way = this.#freeWay(first);
    this.#peers[way] = peer;
    known.set([familyAndPort, a, b, c, d, scope], way * 6);
    return peer;
  }

  /** The peer of a text that was seen before or is parsed now. Throws InvalidSocketAddressError. */
  fromText(text: string): SocketAddress {
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    const peer = parseSocketAddress(text);
    if (this.#byText.size >= this.#maxTexts) {
      const oldest = this.#byText.keys().next();
      if (!oldest.done) this.#byText.delete(oldest.value);
    }
    this.#byText.set(text, peer);
    return peer;
  }

  #setOf(familyAndPort: number, a: number, b: number, c: number, d: number, scope: number): number {
    let hash = this.#seed;
    hash = Math.imul(hash ^ familyAndPort, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15) ^ a, 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 13) ^ b, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 16) ^ c, 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 15) ^ d ^ scope, 0x85ebca6b);
    return (hash ^ (hash >>> 16)) & (this.#sets - 1);
  }

  #freeWay(first: number): number {
    for (let way = first; way < first + WAYS; way++) {
      if (this.#peers[way] === undefined) return way;
    }
    this.#victim = (this.#victim + 1) % WAYS;
    return first + this.#victim;
  }
}
