import { type IpPrefix, lastAddress, prefixesOverlap, prefixSize } from '../../shared/ip/prefix.ts';
import { rangeToPrefixes } from '../../shared/ip/range.ts';

/** The fewest prefixes that together have exactly the addresses of `space` that are not in `taken`; in the order of `space`. */
export function freeSpace(space: readonly IpPrefix[], taken: readonly IpPrefix[]): IpPrefix[] {
  const sorted = taken.toSorted((a, b) => compare(a.address.value, b.address.value));
  return space.flatMap((prefix) => {
    const { family } = prefix.address;
    const end = lastAddress(prefix).value;
    const free: IpPrefix[] = [];
    const add = (from: bigint, to: bigint) => {
      if (from <= to) free.push(...rangeToPrefixes({ family, value: from }, { family, value: to }));
    };
    let next = prefix.address.value;
    for (const other of sorted) {
      if (!prefixesOverlap(prefix, other)) continue;
      add(next, other.address.value - 1n);
      const after = lastAddress(other).value + 1n;
      // What is taken may overlap: a part of it does not make the rest free.
      if (after > next) next = after;
    }
    add(next, end);
    return free;
  });
}

/** How many addresses the prefixes have, which do not overlap. */
export function sizeOf(prefixes: readonly IpPrefix[]): bigint {
  return prefixes.reduce((sum, prefix) => sum + prefixSize(prefix), 0n);
}

/** The first block of `length` bits of the smallest prefix that has room for it, so that larger ones stay whole. */
export function bestFit(free: readonly IpPrefix[], length: number): IpPrefix | undefined {
  let best: IpPrefix | undefined;
  for (const prefix of free) {
    if (prefix.length <= length && prefix.length > (best?.length ?? -1)) best = prefix;
  }
  return best && { address: best.address, length };
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : Number(a > b);
}
