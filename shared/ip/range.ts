import { ADDRESS_BITS, type IpAddress } from './address.ts';
import type { IpPrefix } from './prefix.ts';

/** The fewest prefixes that together have exactly the addresses from `start` to `end`, both included and of one family. */
export function rangeToPrefixes(start: IpAddress, end: IpAddress): IpPrefix[] {
  const { family } = start;
  const bits = ADDRESS_BITS[family];
  const prefixes: IpPrefix[] = [];
  for (let value = start.value; value <= end.value; ) {
    let length = bits;
    // The largest block that starts here and does not reach beyond the end.
    while (length > 0) {
      const size = 1n << BigInt(bits - length + 1);
      if (value % size !== 0n || value + size - 1n > end.value) break;
      length--;
    }
    prefixes.push({ address: { family, value }, length });
    value += 1n << BigInt(bits - length);
  }
  return prefixes;
}
