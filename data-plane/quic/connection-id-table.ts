import { randomInt } from 'node:crypto';
import { MAX_CONNECTION_ID_BYTES } from './packet-header.ts';

const INITIAL_SLOTS = 256;
/** A connection id of up to 20 bytes, and its length. */
const WORDS = MAX_CONNECTION_ID_BYTES / 4 + 1;
const LENGTH_WORD = WORDS - 1;

/**
 * A map from connection ids to small numbers (from 0) that is asked with the bytes of a packet: look-ups make no strings. Entries
 * remember when they were used last, and those of old are swept out. Open addressing with linear probing; the hash is seeded, because
 * strangers choose ids.
 */
export class ConnectionIdTable {
  readonly #seed = randomInt(0x7fffffff);
  readonly #key = new Int32Array(WORDS);
  #slots = INITIAL_SLOTS;
  #words = new Int32Array(INITIAL_SLOTS * WORDS);
  /** The value plus one; 0 is a free slot. */
  #values = new Int32Array(INITIAL_SLOTS);
  #usedAt = new Float64Array(INITIAL_SLOTS);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The value of an id, noting that it was used at `now`; -1 when it is not there. */
  get(bytes: Uint8Array, offset: number, length: number, now: number): number {
    this.#readKey(bytes, offset, length);
    const slot = this.#find();
    if (this.#values[slot] === 0) return -1;
    this.#usedAt[slot] = now;
    return this.#values[slot]! - 1;
  }

  /** Adds an id or gives it another value. */
  set(bytes: Uint8Array, offset: number, length: number, value: number, now: number): void {
    this.#readKey(bytes, offset, length);
    let slot = this.#find();
    if (this.#values[slot] === 0) {
      if ((this.#size + 1) * 4 > this.#slots * 3) {
        this.#rebuild(this.#slots * 2, () => true);
        this.#readKey(bytes, offset, length);
        slot = this.#find();
      }
      this.#size++;
      this.#words.set(this.#key, slot * WORDS);
    }
    this.#values[slot] = value + 1;
    this.#usedAt[slot] = now;
  }

  /** Removes the entries for which `gone` answers true. */
  sweep(gone: (value: number, usedAt: number) => boolean): void {
    this.#rebuild(this.#slots, (value, usedAt) => !gone(value, usedAt));
  }

  #readKey(bytes: Uint8Array, offset: number, length: number): void {
    const key = this.#key;
    key.fill(0);
    for (let i = 0; i < length; i++) key[i >> 2]! |= bytes[offset + i]! << ((i & 3) * 8);
    key[LENGTH_WORD] = length;
  }

  #find(): number {
    const mask = this.#slots - 1;
    let hash = this.#seed;
    for (let i = 0; i < WORDS; i++) {
      hash = Math.imul(hash ^ this.#key[i]!, 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      if (this.#values[slot] === 0 || this.#holdsKey(slot)) return slot;
    }
  }

  #holdsKey(slot: number): boolean {
    const at = slot * WORDS;
    for (let i = 0; i < WORDS; i++) if (this.#words[at + i] !== this.#key[i]) return false;
    return true;
  }

  #rebuild(slots: number, keep: (value: number, usedAt: number) => boolean): void {
    const [words, values, usedAt] = [this.#words, this.#values, this.#usedAt];
    this.#slots = slots;
    this.#words = new Int32Array(slots * WORDS);
    this.#values = new Int32Array(slots);
    this.#usedAt = new Float64Array(slots);
    this.#size = 0;
    for (let old = 0; old < values.length; old++) {
      if (values[old] === 0 || !keep(values[old]! - 1, usedAt[old]!)) continue;
      this.#key.set(words.subarray(old * WORDS, (old + 1) * WORDS));
      const slot = this.#find();
      this.#words.set(this.#key, slot * WORDS);
      this.#values[slot] = values[old]!;
      this.#usedAt[slot] = usedAt[old]!;
      this.#size++;
    }
  }
}
