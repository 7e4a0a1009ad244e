import { type AddressFamily, addressToBytes } from '../../shared/ip/address.ts';
import type { IpPrefix } from '../../shared/ip/prefix.ts';
import { addressInPrefix } from './address-key.ts';

interface Range {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** Prefixes that are asked with the bytes of a packet. Asking allocates nothing. */
export class PrefixList {
  readonly #ranges: Readonly<Record<AddressFamily, readonly Range[]>>;

  constructor(prefixes: readonly IpPrefix[]) {
    this.#ranges = { 4: rangesOf(prefixes, 4), 6: rangesOf(prefixes, 6) };
  }

  /** Whether the address at `offset` is in one of the prefixes. */
  contains(bytes: Uint8Array, offset: number, family: AddressFamily): boolean {
    for (const range of this.#ranges[family]) {
      if (addressInPrefix(bytes, offset, range.bytes, range.bits)) return true;
    }
    return false;
  }
}

function rangesOf(prefixes: readonly IpPrefix[], family: AddressFamily): readonly Range[] {
  return prefixes
    .filter(({ address }) => address.family === family)
    .map(({ address, length }) => ({ bytes: addressToBytes(address), bits: length }));
}
