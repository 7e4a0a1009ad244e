import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { describeError } from '../../shared/errors.ts';
import { pseudoRandomBytes, sha256 } from './pseudo-random.ts';
import { writePrivateFile } from './secret-file.ts';
import type { TrafficReport } from './traffic-report.ts';

/*
 * Runs in a client's namespace: pings each server behind the node and downloads from it, in turn, until SIGTERM, and
 * finishes the round that it is in. What it saw is in the report file after every step.
 */

const run = promisify(execFile);
const PING_TIMEOUT_S = 2;
const DOWNLOAD_TIMEOUT_MS = 30_000;

const { values } = parseArgs({
  options: {
    hosts: { type: 'string' },
    port: { type: 'string' },
    bytes: { type: 'string' },
    pause: { type: 'string' },
    report: { type: 'string' },
  },
});
const hosts = (values.hosts ?? '').split(',').filter((host) => host !== '');
const port = Number(values.port);
const bytes = Number(values.bytes);
const pauseMs = Number(values.pause);
const reportFile = values.report as string;

const report: TrafficReport = {
  rounds: 0,
  pingsSent: 0,
  pingsAnswered: 0,
  lastPingMs: null,
  hosts: Object.fromEntries(hosts.map((host) => [host, { downloads: 0, intact: 0, corrupt: 0, failed: 0, bytes: 0 }])),
  lastError: null,
};
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

save();
while (!stop.signal.aborted) {
  for (const host of hosts) {
    await ping(host);
    await download(host);
  }
  report.rounds++;
  save();
  await delay(pauseMs, undefined, { signal: stop.signal }).catch(() => undefined);
}

async function ping(host: string): Promise<void> {
  report.pingsSent++;
  try {
    const { stdout } = await run('ping', ['-n', '-c', '1', '-W', String(PING_TIMEOUT_S), host]);
    report.pingsAnswered++;
    report.lastPingMs = Number(/time=([\d.]+)/.exec(stdout)?.[1] ?? Number.NaN);
  } catch {
    report.lastError = `no answer to a ping of ${host}`;
  }
  save();
}

async function download(host: string): Promise<void> {
  const result = report.hosts[host] as TrafficReport['hosts'][string];
  const seed = randomBytes(8).toString('hex');
  result.downloads++;
  try {
    const body = await fetchBytes(host, seed);
    result.bytes += body.length;
    if (sha256(body) === sha256(pseudoRandomBytes(seed, bytes))) result.intact++;
    else {
      result.corrupt++;
      report.lastError = `a download from ${host} has the wrong hash (${body.length} of ${bytes} bytes)`;
    }
  } catch (error) {
    result.failed++;
    report.lastError = `download from ${host}: ${describeError(error)}`;
  }
  save();
}

/** A new TCP connection each time: after a reconnect the tunnel may have another address. */
function fetchBytes(host: string, seed: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS);
    const request = get({ host, port, path: `/${bytes}/${seed}`, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks)));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

function save(): void {
  writePrivateFile(reportFile, JSON.stringify(report));
}
