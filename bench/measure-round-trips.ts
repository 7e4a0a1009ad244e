import { inNamespace } from '../deploy/local/netns-topology.ts';
import type { BenchContext } from './bench-context.ts';
import { LOST_PING_MS, parsePing } from './ping-result.ts';
import { runTool } from './run-tool.ts';

const PINGS_PER_SECOND = 10;
/** The first second is not counted. */
export const WARM_UP_SECONDS = 1;
const MARGIN_MS = 10_000;

/** Pings for that long, warm-up included, and returns the round-trip times in milliseconds without those of the warm-up. */
export async function measureRoundTrips(
  context: BenchContext,
  namespace: string,
  address: string,
  seconds: number,
): Promise<number[]> {
  const count = seconds * PINGS_PER_SECOND;
  const options = ['-n', '-i', `${1 / PINGS_PER_SECOND}`, '-c', `${count}`, '-W', `${LOST_PING_MS / 1_000}`];
  const command = inNamespace(namespace, 'ping', [...options, address]);
  return parsePing(await runTool(context, command, seconds * 1_000 + MARGIN_MS), WARM_UP_SECONDS * PINGS_PER_SECOND);
}
