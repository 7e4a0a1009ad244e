import { copyBytes } from '../os/copy-bytes.ts';
import { MAX_CONNECTION_ID_BYTES } from '../quic/packet-header.ts';

/*
 * What shards say to each other, in messages of 32-bit words: one with the kind and the sender, then records.
 *
 *     datagram:  length, sockaddr (7 words), bytes filled up to a word
 *     claim:     length, connection id (5 words)
 */

/** `ask`: datagrams for whoever knows their connections; `pass`: for the one that does; `claim`: ids of its own, to one that asked. */
export const HANDOFF_KINDS = ['ask', 'pass', 'claim'] as const;
export type HandoffKind = (typeof HANDOFF_KINDS)[number];

/** The longest message (ours): more is several messages. */
export const MAX_MESSAGE_BYTES = 32_768;
/** The longest datagram that is handed on (ours): packets of ours and of our clients have 1452. */
export const MAX_HANDED_BYTES = 2_048;

const WORD = 4;
const HEADER_BYTES = WORD;
const SOCKADDR_WORDS = 7;
const DATAGRAM_HEADER_BYTES = (1 + SOCKADDR_WORDS) * WORD;
const CLAIM_BYTES = WORD + MAX_CONNECTION_ID_BYTES;

/** A message that is being filled. */
export class HandoffBatch {
  readonly bytes = new Uint8Array(MAX_MESSAGE_BYTES);
  readonly #words = new Int32Array(this.bytes.buffer);
  length = HEADER_BYTES;
  records = 0;

  constructor(kind: HandoffKind, from: number) {
    this.#words[0] = HANDOFF_KINDS.indexOf(kind) | (from << 8);
  }

  get isEmpty(): boolean {
    return this.records === 0;
  }

  clear(): void {
    this.length = HEADER_BYTES;
    this.records = 0;
  }

  /** False when it does not fit. `sockaddr` is the kernel's, of IPv4 or IPv6. */
  addDatagram(bytes: Uint8Array, offset: number, length: number, sockaddr: Uint8Array): boolean {
    const size = DATAGRAM_HEADER_BYTES + padded(length);
    if (this.length + size > MAX_MESSAGE_BYTES) return false;
    this.#words[this.length / WORD] = length;
    this.bytes.set(sockaddr, this.length + WORD);
    copyBytes(bytes, offset, this.bytes, this.length + DATAGRAM_HEADER_BYTES, length);
    this.length += size;
    this.records++;
    return true;
  }

  /** False when it does not fit. */
  addClaim(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.length + CLAIM_BYTES > MAX_MESSAGE_BYTES) return false;
    this.#words[this.length / WORD] = length;
    copyBytes(bytes, offset, this.bytes, this.length + WORD, length);
    this.length += CLAIM_BYTES;
    this.records++;
    return true;
  }
}

/** Told what is in a message. Offsets are into its bytes, `sockaddrWord` into its words. */
export interface HandoffHandler {
  onDatagram(kind: 'ask' | 'pass', from: number, sockaddrWord: number, offset: number, length: number): void;
  onClaim(from: number, offset: number, length: number): void;
}

/** Reads a message of `length` bytes. What is cut or unknown is ignored. */
export function readHandoff(words: Int32Array, length: number, handler: HandoffHandler): void {
  const kind = HANDOFF_KINDS[words[0]! & 0xff];
  const from = words[0]! >>> 8;
  let at = HEADER_BYTES;
  if (kind === undefined || length < HEADER_BYTES) return;
  while (at + WORD <= length) {
    const size = words[at / WORD]!;
    if (kind === 'claim') {
      if (size < 0 || size > MAX_CONNECTION_ID_BYTES || at + CLAIM_BYTES > length) return;
      handler.onClaim(from, at + WORD, size);
      at += CLAIM_BYTES;
    } else {
      if (size <= 0 || at + DATAGRAM_HEADER_BYTES + size > length) return;
      handler.onDatagram(kind, from, at / WORD + 1, at + DATAGRAM_HEADER_BYTES, size);
      at += DATAGRAM_HEADER_BYTES + padded(size);
    }
  }
}

function padded(length: number): number {
  return (length + WORD - 1) & ~(WORD - 1);
}
