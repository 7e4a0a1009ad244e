import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';

export const NO_TRAFFIC: TrafficTotals = Object.freeze({ bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 });

/** Adds to a sum in place; whether that was exact says `isExact`. */
export function addTo(sum: TrafficTotals, { bytesIn, bytesOut, packetsIn, packetsOut }: TrafficTotals): void {
  sum.bytesIn += bytesIn;
  sum.bytesOut += bytesOut;
  sum.packetsIn += packetsIn;
  sum.packetsOut += packetsOut;
}

/** As `addTo`, in an object of its own. */
export function totalOf(a: TrafficTotals, b: TrafficTotals): TrafficTotals {
  const { bytesIn, bytesOut, packetsIn, packetsOut } = a;
  const total = { bytesIn, bytesOut, packetsIn, packetsOut };
  addTo(total, b);
  return total;
}

/** Whether numbers hold each part of a sum exactly. */
export const isExact = ({ bytesIn, bytesOut, packetsIn, packetsOut }: TrafficTotals): boolean =>
  Math.max(bytesIn, bytesOut, packetsIn, packetsOut) <= Number.MAX_SAFE_INTEGER;

/** The sum; it stays at the highest number that is exact. */
export function addTraffic(a: TrafficTotals, b: TrafficTotals): TrafficTotals {
  return {
    bytesIn: Math.min(a.bytesIn + b.bytesIn, Number.MAX_SAFE_INTEGER),
    bytesOut: Math.min(a.bytesOut + b.bytesOut, Number.MAX_SAFE_INTEGER),
    packetsIn: Math.min(a.packetsIn + b.packetsIn, Number.MAX_SAFE_INTEGER),
    packetsOut: Math.min(a.packetsOut + b.packetsOut, Number.MAX_SAFE_INTEGER),
  };
}
