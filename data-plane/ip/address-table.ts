import { randomInt } from 'node:crypto';

/** Slots of a new table; it doubles when three quarters are used, so it is as large as its owner makes it. */
const INITIAL_SLOTS = 64;
const WORDS = 4;

/**
 * A map from IPv4 and IPv6 addresses to values that is asked with the bytes of a packet: lookups make no strings and no objects. An
 * IPv4 address is kept as the IPv4-mapped IPv6 one, so the mapped addresses themselves are not told apart from it (they are never on
 * the wire, RFC 4942, 2.2). Open addressing with linear probing and backward-shift deletion; the hash is seeded per process.
 */
export class AddressTable<T> {
  #slots = INITIAL_SLOTS;
  #words = new Int32Array(INITIAL_SLOTS * WORDS);
  #values: (T | undefined)[] = new Array<T | undefined>(INITIAL_SLOTS).fill(undefined);
  #size = 0;
  readonly #seed = randomInt(0x7fffffff);
  readonly #key = new Int32Array(WORDS);

  get size(): number {
    return this.#size;
  }

  /** The value of the address of `addressLength` (4 or 16) bytes at `offset`. */
  get(bytes: Uint8Array, offset: number, addressLength: 4 | 16): T | undefined {
    this.#readKey(bytes, offset, addressLength);
    return this.#values[this.#find()];
  }

  /** Adds or replaces; `address` has 4 or 16 bytes in network order. */
  set(address: Uint8Array, value: T & NonNullable<unknown>): void {
    this.#readKey(address, 0, address.length === 4 ? 4 : 16);
    let slot = this.#find();
    if (this.#values[slot] === undefined) {
      if ((this.#size + 1) * 4 > this.#slots * 3) {
        this.#grow();
        slot = this.#find();
      }
      this.#size++;
      this.#words.set(this.#key, slot * WORDS);
    }
    this.#values[slot] = value;
  }

  /** False when the address was not there. */
  delete(address: Uint8Array): boolean {
    this.#readKey(address, 0, address.length === 4 ? 4 : 16);
    let hole = this.#find();
    if (this.#values[hole] === undefined) return false;
    this.#size--;
    const mask = this.#slots - 1;
    for (let slot = (hole + 1) & mask; this.#values[slot] !== undefined; slot = (slot + 1) & mask) {
      const home = this.#hashOf(this.#words, slot * WORDS);
      // An entry may move into the hole unless its home lies behind the hole.
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#values[hole] = this.#values[slot];
      this.#words.copyWithin(hole * WORDS, slot * WORDS, (slot + 1) * WORDS);
      hole = slot;
    }
    this.#values[hole] = undefined;
    return true;
  }

  #readKey(bytes: Uint8Array, offset: number, addressLength: 4 | 16): void {
    if (addressLength === 4) {
      this.#key[0] = 0;
      this.#key[1] = 0;
      this.#key[2] = 0xffff;
      this.#key[3] = readInt32(bytes, offset);
      return;
    }
    for (let i = 0; i < WORDS; i++) this.#key[i] = readInt32(bytes, offset + i * 4);
  }

  /** The slot of the key, or the free one where it belongs. */
  #find(): number {
    const mask = this.#slots - 1;
    const words = this.#words;
    const key = this.#key;
    for (let slot = this.#hashOf(key, 0); ; slot = (slot + 1) & mask) {
      if (this.#values[slot] === undefined) return slot;
      const at = slot * WORDS;
      if (words[at] === key[0] && words[at + 1] === key[1] && words[at + 2] === key[2] && words[at + 3] === key[3]) {
        return slot;
      }
    }
  }

  #hashOf(words: Int32Array, at: number): number {
    let hash = this.#seed;
    for (let i = 0; i < WORDS; i++) {
      hash = Math.imul(hash ^ words[at + i]!, 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) & (this.#slots - 1);
  }

  #grow(): void {
    const words = this.#words;
    const values = this.#values;
    this.#slots *= 2;
    this.#words = new Int32Array(this.#slots * WORDS);
    this.#values = new Array<T | undefined>(this.#slots).fill(undefined);
    const key = this.#key.slice();
    for (let slot = 0; slot < values.length; slot++) {
      if (values[slot] === undefined) continue;
      this.#key.set(words.subarray(slot * WORDS, (slot + 1) * WORDS));
      const target = this.#find();
      this.#words.set(this.#key, target * WORDS);
      this.#values[target] = values[slot];
    }
    this.#key.set(key);
  }
}

function readInt32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
}
