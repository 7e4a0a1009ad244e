import type { AddressFamily } from '../../shared/ip/address.ts';
import { type IpPrefix, prefixCovers } from '../../shared/ip/prefix.ts';
import type { PacketInfo } from '../ip/packet-info.ts';
import { PrefixList } from '../ip/prefix-list.ts';
import { PROTOCOL } from '../ip/protocol.ts';
import type { ConnectIpProtocol } from '../masque/connect-ip-request.ts';
import { ANY_PROTOCOL, type IpRoute, routeToPrefix } from '../masque/route-advertisement.ts';

/** Whether a packet may pass, or what about it may not. */
export type ScopeVerdict = 'inside' | 'address' | 'protocol';

export interface ScopeOptions {
  /** What the request was limited to, names resolved; null: it named no target. */
  readonly targets: readonly IpPrefix[] | null;
  readonly protocol: ConnectIpProtocol;
  /** What the node lets its clients reach. */
  readonly advertised: readonly IpPrefix[];
}

/** ICMP types that tell about a packet of the receiver: unreachable, time exceeded, parameter problem; too big, in IPv6. */
const ICMPV4_ABOUT_PACKETS: ReadonlySet<number> = new Set([3, 11, 12]);
const ICMPV6_ABOUT_PACKETS: ReadonlySet<number> = new Set([1, 2, 3, 4]);

/**
 * What may flow through one tunnel: to the node's routes, and if the request was scoped (RFC 9484 4.6), to and from its target only, and
 * of its protocol only. ICMP passes as any protocol does (4.8). Allocates nothing per packet.
 */
export class TunnelScope {
  /** What the client may reach, for ROUTE_ADVERTISEMENT. */
  readonly prefixes: readonly IpPrefix[];
  readonly #protocol: ConnectIpProtocol;
  readonly #hasTargets: boolean;
  readonly #reachable: PrefixList;

  constructor({ targets, protocol, advertised }: ScopeOptions) {
    this.prefixes = targets === null ? advertised : commonPrefixes(targets, advertised);
    this.#protocol = protocol;
    this.#hasTargets = targets !== null;
    this.#reachable = new PrefixList(this.prefixes);
  }

  /** An inspected packet from the client, by where it goes. */
  checkUplink(bytes: Uint8Array, offset: number, info: PacketInfo): ScopeVerdict {
    if (!this.#reachable.contains(bytes, offset + info.destinationOffset, info.family)) return 'address';
    return this.#takesProtocol(info) ? 'inside' : 'protocol';
  }

  /** An inspected packet to the client, by where it comes from: errors about the client's own packets come from anywhere on their way. */
  checkDownlink(bytes: Uint8Array, offset: number, info: PacketInfo): ScopeVerdict {
    if (!this.#takesProtocol(info)) return 'protocol';
    if (!this.#hasTargets || this.#reachable.contains(bytes, offset + info.sourceOffset, info.family)) return 'inside';
    return isAboutPacket(bytes, offset, info) ? 'inside' : 'address';
  }

  /** What is advertised to a client that has addresses of these families. */
  routes(families: ReadonlySet<AddressFamily>): IpRoute[] {
    const protocol = this.#protocol === 'any' ? ANY_PROTOCOL : this.#protocol;
    return this.prefixes
      .filter(({ address }) => families.has(address.family))
      .map((prefix) => routeToPrefix(prefix, protocol));
  }

  #takesProtocol({ family, protocol }: PacketInfo): boolean {
    return this.#protocol === 'any' || protocol === this.#protocol || protocol === icmpOf(family);
  }
}

/** What two lists of prefixes have in common, without overlaps. */
export function commonPrefixes(a: readonly IpPrefix[], b: readonly IpPrefix[]): IpPrefix[] {
  const common = a.flatMap((one) => b.flatMap((other) => commonOf(one, other) ?? []));
  return common.filter(
    (prefix, i) =>
      !common.some((other, j) => i !== j && prefixCovers(other, prefix) && (other.length < prefix.length || j < i)),
  );
}

// Two prefixes are apart, or one is a part of the other.
function commonOf(a: IpPrefix, b: IpPrefix): IpPrefix | undefined {
  if (prefixCovers(a, b)) return b;
  return prefixCovers(b, a) ? a : undefined;
}

function icmpOf(family: AddressFamily): number {
  return family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
}

function isAboutPacket(
  bytes: Uint8Array,
  offset: number,
  { family, protocol, headerLength, totalLength, laterFragment }: PacketInfo,
): boolean {
  if (protocol !== icmpOf(family) || laterFragment || headerLength >= totalLength) return false;
  return (family === 4 ? ICMPV4_ABOUT_PACKETS : ICMPV6_ABOUT_PACKETS).has(bytes[offset + headerLength]!);
}
