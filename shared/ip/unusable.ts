import { formatPrefix, type IpPrefix, parsePrefix, prefixesOverlap } from './prefix.ts';

/** Networks whose addresses no host of another link can have (RFC 6890 2.2). */
const UNUSABLE: readonly (readonly [prefix: IpPrefix, why: string])[] = (
  [
    ['0.0.0.0/8', '"this network"'],
    ['127.0.0.0/8', 'loopback'],
    ['169.254.0.0/16', 'link-local'],
    ['224.0.0.0/4', 'multicast'],
    ['240.0.0.0/4', 'reserved'],
    ['::/127', 'unspecified and loopback'],
    ['::ffff:0:0/96', 'IPv4-mapped'],
    ['fe80::/10', 'link-local'],
    ['ff00::/8', 'multicast'],
  ] as const
).map(([prefix, why]) => [parsePrefix(prefix), why]);

/** Why clients cannot have the addresses of a network, or of a part of it, e.g. "127.0.0.0/8 is loopback"; undefined where they can. */
export function whyUnusable(prefix: IpPrefix): string | undefined {
  const found = UNUSABLE.find(([range]) => prefixesOverlap(range, prefix));
  return found && `${formatPrefix(found[0])} is ${found[1]}`;
}
