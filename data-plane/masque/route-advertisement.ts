import { ADDRESS_BITS, addressToBytes, type IpAddress } from '../../shared/ip/address.ts';
import { type IpPrefix, lastAddress } from '../../shared/ip/prefix.ts';
import { concatBytes, readAddress, readFamily } from './address-entry.ts';
import { CAPSULE_ROUTE_ADVERTISEMENT, encodeCapsule, malformedCapsule } from './capsule.ts';

/** The IP protocol of a route that takes all of them. */
export const ANY_PROTOCOL = 0;

/** Addresses, both ends included and of one family, that packets of an IP protocol may be sent to (RFC 9484 4.7.3). */
export interface IpRoute {
  readonly start: IpAddress;
  readonly end: IpAddress;
  /** 0 to 255; ANY_PROTOCOL takes all. ICMP is always allowed. */
  readonly protocol: number;
}

/**
 * The value of ROUTE_ADVERTISEMENT: the whole list, which replaces any former one; empty takes all away. Throws
 * H3_MESSAGE_ERROR for a malformed range, a wrong order or an overlap.
 */
export function parseRouteAdvertisement(value: Uint8Array): IpRoute[] {
  const name = 'ROUTE_ADVERTISEMENT';
  const routes: IpRoute[] = [];
  let offset = 0;
  while (offset < value.length) {
    const family = readFamily(name, value, offset);
    const addressLength = ADDRESS_BITS[family] / 8;
    const start = readAddress(name, value, offset + 1, family);
    const end = readAddress(name, value, offset + 1 + addressLength, family);
    const protocol = value[offset + 1 + 2 * addressLength];
    if (protocol === undefined) throw malformedCapsule(`${name} ends before an IP protocol`);
    offset += 2 + 2 * addressLength;
    routes.push({ start, end, protocol });
  }
  checkRoutes(routes);
  return routes;
}

/** A whole ROUTE_ADVERTISEMENT capsule. The routes are put in order first; throws H3_MESSAGE_ERROR when they overlap. */
export function encodeRouteAdvertisement(routes: readonly IpRoute[]): Uint8Array {
  const ordered = routes.toSorted(compareRoutes);
  checkRoutes(ordered);
  const parts = ordered.map(({ start, end, protocol }) =>
    concatBytes([Uint8Array.of(start.family), addressToBytes(start), addressToBytes(end), Uint8Array.of(protocol)]),
  );
  return encodeCapsule(CAPSULE_ROUTE_ADVERTISEMENT, concatBytes(parts));
}

/** The route to all addresses of a prefix. */
export function routeToPrefix(prefix: IpPrefix, protocol = ANY_PROTOCOL): IpRoute {
  return { start: prefix.address, end: lastAddress(prefix), protocol };
}

/** Whether a packet of this IP protocol to this address may take the route; ICMP is for the caller to allow. */
export function routeAllows(route: IpRoute, destination: IpAddress, protocol: number): boolean {
  return (
    route.start.family === destination.family &&
    (route.protocol === ANY_PROTOCOL || route.protocol === protocol) &&
    route.start.value <= destination.value &&
    destination.value <= route.end.value
  );
}

function compareRoutes(a: IpRoute, b: IpRoute): number {
  if (a.start.family !== b.start.family) return a.start.family - b.start.family;
  if (a.protocol !== b.protocol) return a.protocol - b.protocol;
  return a.start.value < b.start.value ? -1 : a.start.value > b.start.value ? 1 : 0;
}

/** Version, then protocol, then addresses ascend without touching, and no route of all protocols overlaps another. */
function checkRoutes(routes: readonly IpRoute[]): void {
  let previous: IpRoute | undefined;
  let ofAllProtocols: IpRoute[] = [];
  for (const route of routes) {
    if (route.start.value > route.end.value) throw malformedCapsule('a route ends before it starts');
    if (previous?.start.family !== route.start.family) ofAllProtocols = [];
    if (previous !== undefined) checkOrder(previous, route);
    if (route.protocol === ANY_PROTOCOL) ofAllProtocols.push(route);
    else if (overlapsAny(ofAllProtocols, route)) {
      throw malformedCapsule(`a route of protocol ${route.protocol} overlaps one of all protocols`);
    }
    previous = route;
  }
}

function checkOrder(a: IpRoute, b: IpRoute): void {
  if (a.start.family > b.start.family) throw malformedCapsule('an IPv4 route follows an IPv6 route');
  if (a.start.family < b.start.family) return;
  if (a.protocol > b.protocol) throw malformedCapsule('routes are not ordered by protocol');
  if (a.protocol === b.protocol && a.end.value >= b.start.value) {
    throw malformedCapsule('routes of one protocol overlap or are not in order');
  }
}

/** `sorted` are disjoint and ascend. */
function overlapsAny(sorted: readonly IpRoute[], route: IpRoute): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]!.end.value < route.start.value) low = middle + 1;
    else high = middle;
  }
  const first = sorted[low];
  return first !== undefined && first.start.value <= route.end.value;
}
