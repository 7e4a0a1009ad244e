import { inNamespace } from '../deploy/local/netns-topology.ts';
import type { BenchContext } from './bench-context.ts';
import { LOST_PING_MS, parsePing } from './ping-result.ts';
import { runTool } from './run-tool.ts';

const PINGS_PER_SECOND = 10;
/** The first second is not counted. */
export const SETTLE_SECONDS = 1;
/** A warm-up: traffic enough for a just-in-time compiler, 2 ms apart. */
const WARM_UP_PINGS = 1_000;
const WARM_UP_INTERVAL_SECONDS = 0.002;
export const WARM_UP_SECONDS = WARM_UP_PINGS * WARM_UP_INTERVAL_SECONDS;
const MARGIN_MS = 10_000;

/** To be done before idle round trips are measured, on all paths alike. */
export async function warmUp(context: BenchContext, namespace: string, address: string): Promise<void> {
  const options = ['-n', '-q', '-i', `${WARM_UP_INTERVAL_SECONDS}`, '-c', `${WARM_UP_PINGS}`];
  await runTool(context, inNamespace(namespace, 'ping', [...options, address]), WARM_UP_SECONDS * 1_000 + MARGIN_MS);
}

/** Pings for that long, and returns the round-trip times in milliseconds without those of the first second. */
export async function measureRoundTrips(
  context: BenchContext,
  namespace: string,
  address: string,
  seconds: number,
): Promise<number[]> {
  const count = seconds * PINGS_PER_SECOND;
  const options = ['-n', '-i', `${1 / PINGS_PER_SECOND}`, '-c', `${count}`, '-W', `${LOST_PING_MS / 1_000}`];
  const command = inNamespace(namespace, 'ping', [...options, address]);
  return parsePing(await runTool(context, command, seconds * 1_000 + MARGIN_MS), SETTLE_SECONDS * PINGS_PER_SECOND);
}
