import type { IperfResult } from './iperf-result.ts';

/** Loss that is still fine, percent. */
export const MAX_LOSS_PERCENT = 0.5;
const LOWEST_MBPS = 20;
const HIGHEST_MBPS = 5_120;
/** Halvings, on a logarithmic scale, of the factor 256 between those: the result is good to 4.4 %. */
export const UDP_PROBES = 7;
/** A sender that gets no nearer to the offered rate than this has reached its own limit. */
const SENDER_REACHES = 0.8;

/**
 * The most that arrives, in Mbit/s, at a rate that loses less than MAX_LOSS_PERCENT; 0 when no probed rate does. Bounded:
 * at most UDP_PROBES, each of which sends at the given rate.
 */
export async function findHighestRate(probe: (mbps: number) => Promise<IperfResult>): Promise<number> {
  let [low, high, best] = [LOWEST_MBPS, HIGHEST_MBPS, 0];
  for (let i = 0; i < UDP_PROBES; i++) {
    const offered = Math.sqrt(low * high);
    const { mbps, lossPercent } = await probe(offered);
    if (lossPercent < MAX_LOSS_PERCENT) {
      best = Math.max(best, mbps);
      low = offered;
      if (mbps < offered * SENDER_REACHES) break;
    } else high = offered;
  }
  return best;
}
