import assert from 'node:assert/strict';
import type { ClusterClient } from '../../../deploy/local/cluster-parts.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Small and many, so that a short break of a tunnel is seen. */
export const LOAD = { bytesPerDownload: 256 * 1024, pauseMs: 200 };
const PROGRESS_TIMEOUT_MS = 30_000;

export interface TrafficMark {
  readonly connects: number;
  readonly pings: number;
  readonly unanswered: number;
  readonly intact: number;
  readonly broken: number;
}

export function markTraffic(client: ClusterClient): TrafficMark {
  const report = client.traffic();
  const hosts = Object.values(report?.hosts ?? {});
  const sum = (count: (host: (typeof hosts)[number]) => number) =>
    hosts.reduce((total, host) => total + count(host), 0);
  return {
    connects: client.status()?.connects ?? 0,
    pings: report?.pingsAnswered ?? 0,
    unanswered: (report?.pingsSent ?? 0) - (report?.pingsAnswered ?? 0),
    intact: sum((host) => host.intact),
    broken: sum((host) => host.corrupt + host.failed),
  };
}

/** Waits until the client has done more: pings were answered, and downloads came intact. */
export async function untilTrafficGoesOn(client: ClusterClient, since = markTraffic(client)): Promise<void> {
  const goesOn = () => {
    const now = markTraffic(client);
    return now.pings > since.pings + 1 && now.intact > since.intact + 1;
  };
  await waitFor(goesOn, { timeoutMs: PROGRESS_TIMEOUT_MS, what: `traffic through the tunnel of ${client.id}` });
}

/** Between two marks the tunnel was open all the time: nothing was lost in it, and it is the same tunnel. */
export function assertTunnelHeld(client: ClusterClient, since: TrafficMark, now = markTraffic(client)): void {
  const { connects, unanswered, broken } = since;
  assert.deepEqual(now, { ...now, connects, unanswered, broken }, `${client.id}: ${client.traffic()?.lastError}`);
  assert.ok(now.intact > since.intact && now.pings > since.pings, `${client.id}: ${JSON.stringify({ since, now })}`);
}
