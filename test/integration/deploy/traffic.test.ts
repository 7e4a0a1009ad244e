import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { startProcess } from '../../../deploy/local/child-process.ts';
import { freePort } from '../../../deploy/local/free-port.ts';
import { pseudoRandomBytes } from '../../../deploy/local/pseudo-random.ts';
import { readTrafficReport } from '../../../deploy/local/traffic-report.ts';
import { needsBinary } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';

const BYTES = 100_000;
const skip = needsBinary('ping', 'iputils-ping');
const script = (name: string) => fileURLToPath(new URL(`../../../deploy/local/${name}`, import.meta.url));

async function drive(t: { after(fn: () => unknown): void }, port: number, rounds: number) {
  const directory = temporaryDirectory(t);
  const report = join(directory, 'report.json');
  const child = await startProcess({
    name: 'driver',
    command: process.execPath,
    args: [
      script('traffic-driver.ts'),
      ...['--hosts', '127.0.0.1', '--port', String(port), '--bytes', String(BYTES), '--pause', '1', '--report', report],
    ],
    logFile: join(directory, 'log'),
  });
  t.after(() => child.kill());
  await waitFor(() => (readTrafficReport(report)?.rounds ?? 0) >= rounds, { timeoutMs: 20_000, what: 'some rounds' });
  assert.deepEqual(await child.stop(), { code: 0, signal: null });
  return readTrafficReport(report);
}

test('the driver pings, and downloads intact bytes from the server', { skip }, async (t) => {
  const port = await freePort('127.0.0.1');
  const server = await startProcess({
    name: 'server',
    command: process.execPath,
    args: [script('download-server.ts'), String(port)],
    logFile: join(temporaryDirectory(t), 'log'),
  });
  t.after(() => server.stop());
  await server.untilReady(() => fetch(`http://127.0.0.1:${port}/1/x`), 'first answer', 20_000);
  const report = await drive(t, port, 2);
  const result = report?.hosts['127.0.0.1'];
  assert.equal(report?.pingsAnswered, report?.pingsSent);
  assert.ok(result !== undefined && result.intact >= 2 && result.intact === result.downloads, JSON.stringify(report));
  assert.equal(result.bytes, result.intact * BYTES);
});

test('the driver tells corrupt downloads from failed ones', { skip }, async (t) => {
  let requests = 0;
  const server = createServer((request, response) => {
    const body = pseudoRandomBytes(request.url?.split('/').at(-1) ?? '', BYTES);
    if (requests++ % 2 === 0) response.destroy();
    else response.end(body.fill(0, 50_000, 50_001));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const report = await drive(t, (server.address() as { port: number }).port, 4);
  const result = report?.hosts['127.0.0.1'];
  assert.equal(result?.intact, 0);
  assert.ok(result.failed >= 1 && result.corrupt >= 1, JSON.stringify(report));
});
