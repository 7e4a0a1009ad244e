import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../shared/errors.ts';
import { auditQueries } from './audit-queries.ts';
import type { Cluster } from './cluster.ts';
import { renderOverview, summarizeOverview, takeOverview } from './overview.ts';

const REFRESH_MS = 1_000;
/** More would push the table out of a terminal. */
const SHOWN_QUERIES = 3;
/** Without a terminal a line now and then is enough. */
const LINE_INTERVAL_MS = 10_000;
const DOWNLOAD_BYTES = 8 * 2 ** 20;
/** Leaves most of a small machine idle while the cluster is on show. */
const PAUSE_MS = 3_000;
const ERASE_BELOW = '\x1b[J';
const cursorUp = (lines: number): string => (lines > 0 ? `\x1b[${lines}A\r` : '');

/** Keeps traffic going and shows it, refreshed in place on a terminal, until the signal aborts. */
export async function runOn(cluster: Cluster, print: (text: string) => void, signal: AbortSignal): Promise<void> {
  for (const client of cluster.clients) {
    await client.startTraffic({ bytesPerDownload: DOWNLOAD_BYTES, pauseMs: PAUSE_MS });
  }
  print(describeAccess(cluster));
  const terminal = process.stdout.isTTY === true;
  let height = 0;
  while (!signal.aborted) {
    const dead = [cluster.controlPlane, ...cluster.nodes.map((node) => node.service)].filter((s) => !s.running());
    if (dead[0] !== undefined) {
      const { name, logFile } = dead[0];
      throw new Error(`${name} has ended; last lines of ${logFile}:\n${dead[0].process().lastLogLines()}`);
    }
    try {
      const overview = await takeOverview(cluster);
      if (terminal) {
        const picture = renderOverview(overview);
        process.stdout.write(`${cursorUp(height)}${ERASE_BELOW}${fit(picture, process.stdout.columns)}\n`);
        height = picture.split('\n').length;
      } else print(summarizeOverview(overview));
    } catch (error) {
      print(`no overview: ${describeError(error)}`);
      height = 0;
    }
    await delay(terminal ? REFRESH_MS : LINE_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
}

function describeAccess(cluster: Cluster): string {
  const address = cluster.clients[0]?.status()?.addresses[0]?.split('/')[0] ?? '10.99.0.2';
  const queries = auditQueries(address, new Date());
  return [
    '',
    `control-plane API  ${cluster.controlPlaneUrl}/v1/nodes   (Authorization: Bearer, token in cluster.json)`,
    `metrics            ${cluster.controlPlaneUrl}/metrics`,
    ...cluster.nodes.map((node) => `${`  of ${node.id}`.padEnd(18)} ${node.metricsUrl}`),
    `Postgres           ${withoutPassword(cluster.databaseUrl)}   (password in cluster.json)`,
    '',
    'SQL for audits (README has more):',
    ...queries.slice(0, SHOWN_QUERIES).map(({ question, sql }) => `\n  ${question}\n${sql.replace(/^/gm, '    ')};`),
    '',
    'Ctrl-C ends it; the data stays.',
    '',
  ].join('\n');
}

/** What is printed may be kept, as the output of a service is. */
function withoutPassword(url: string): string {
  const parsed = new URL(url);
  parsed.password = '';
  return parsed.href;
}

/** A line that wraps would break the refresh in place. */
function fit(picture: string, columns: number): string {
  return picture
    .split('\n')
    .map((line) => line.slice(0, columns))
    .join('\n');
}
