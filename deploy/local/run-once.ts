import { setTimeout as delay } from 'node:timers/promises';
import { auditQueries } from './audit-queries.ts';
import { type Check, checkHistory, checkRunning, checkTotals, checkTraffic } from './checks.ts';
import type { Cluster } from './cluster.ts';
import { scrape } from './http-client.ts';
import { textTable } from './text-table.ts';
import { type ClientTotals, collectTotals } from './traffic-totals.ts';
import { waitFor } from './wait-for.ts';

const TRAFFIC_MS = 15_000;
const DOWNLOAD_BYTES = 8 * 2 ** 20;
const PAUSE_MS = 200;
const PROJECTION_TIMEOUT_MS = 30_000;

export interface OnceResult {
  readonly ok: boolean;
  readonly checks: readonly Check[];
  readonly clients: readonly ClientTotals[];
}

/** Drives traffic through a running cluster, disconnects the clients, and checks what the cluster says of it. */
export async function runOnce(
  cluster: Cluster,
  print: (text: string) => void,
  signal: AbortSignal,
): Promise<OnceResult> {
  print(`traffic through every tunnel for ${TRAFFIC_MS / 1000} s: pings, and downloads of ${DOWNLOAD_BYTES} bytes`);
  await Promise.all(
    cluster.clients.map((client) => client.startTraffic({ bytesPerDownload: DOWNLOAD_BYTES, pauseMs: PAUSE_MS })),
  );
  await delay(TRAFFIC_MS, undefined, { signal });
  const running = await checkRunning(cluster);
  await Promise.all(cluster.clients.map((client) => client.stopTraffic()));
  const address = cluster.clients[0]?.status()?.addresses[0]?.split('/')[0] ?? '10.99.0.2';
  const heldAt = new Date();

  print('disconnecting the clients');
  const ends = await Promise.all(cluster.clients.map((client) => client.service.stop()));
  const cleanEnds = ends.map((end, i) => ({
    name: `${cluster.clients[i]?.id}: ends cleanly`,
    ok: end?.code === 0,
    expected: 0,
    actual: end?.code ?? end?.signal ?? null,
  }));

  print('waiting until all of it is in Postgres');
  const projected = await untilAllClosed(cluster, signal);
  const totals = await collectTotals(cluster);
  const checks = [
    ...running,
    ...checkTraffic(cluster),
    ...cleanEnds,
    projected,
    ...checkTotals(totals),
    ...(await checkHistory(cluster)),
  ];
  await printMetrics(cluster, print);
  for (const { question, sql } of auditQueries(address, heldAt)) {
    print(`\n${question}\n${indent(sql)}\n`);
    print(textTable(await cluster.sql(sql)));
  }
  print('\nchecks');
  for (const check of checks) print(describeCheck(check));
  return { ok: checks.every((check) => check.ok), checks, clients: totals };
}

export function describeCheck({ ok, name, expected, actual }: Check): string {
  if (ok) return `  ok    ${name}`;
  return `  FAIL  ${name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`;
}

async function untilAllClosed(cluster: Cluster, signal: AbortSignal): Promise<Check> {
  const name = 'the projection catches up';
  try {
    await cluster.untilProjected(PROJECTION_TIMEOUT_MS);
    await waitFor(
      async () => {
        signal.throwIfAborted();
        const [row] = await cluster.sql<{ open: number }>(
          "SELECT count(*)::int AS open FROM connections WHERE state <> 'closed'",
        );
        return row?.open === 0;
      },
      { timeoutMs: PROJECTION_TIMEOUT_MS, what: 'the end of every connection in Postgres' },
    );
    // The close and what follows from it are events of their own.
    await cluster.untilProjected(PROJECTION_TIMEOUT_MS);
    return { name, ok: true, expected: 'nothing left to apply', actual: 'nothing left to apply' };
  } catch (error) {
    signal.throwIfAborted();
    return { name, ok: false, expected: 'nothing left to apply', actual: String(error) };
  }
}

async function printMetrics(cluster: Cluster, print: (text: string) => void): Promise<void> {
  const samples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
  const shown = samples.filter(
    ({ name }) =>
      name.startsWith('masque_vpn_') && !name.startsWith('masque_vpn_control_') && !name.endsWith('_bucket'),
  );
  print(`\nmetrics of the cluster (${cluster.controlPlaneUrl}/metrics)`);
  print(
    textTable(
      shown.map(({ name, labels, value }) => ({
        metric: name,
        labels:
          Object.entries(labels)
            .map(([key, text]) => `${key}=${text}`)
            .join(' ') || null,
        value,
      })),
    ),
  );
}

const indent = (text: string): string => text.replace(/^/gm, '    ');
