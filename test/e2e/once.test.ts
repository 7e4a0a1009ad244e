import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import type { OnceResult } from '../../deploy/local/run-once.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';

const main = fileURLToPath(new URL('../../deploy/local/main.ts', import.meta.url));
const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');

test('npm start -- --once --json carries traffic, and all of its checks hold', { skip }, async () => {
  const { code, stdout, stderr } = await runMain('--once', '--json');
  const result = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as OnceResult;
  assert.deepEqual(
    result.checks.filter((check) => !check.ok),
    [],
    `${stdout}\n${stderr}`,
  );
  assert.equal(result.ok, true);
  assert.equal(code, 0);
  assert.deepEqual(
    result.clients.map((client) => client.id),
    ['client-1', 'client-2', 'client-3'],
  );
  for (const client of result.clients) assert.ok(client.metrics.bytesSent > 1_000_000, JSON.stringify(client));
});

function runMain(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { maxBuffer: 2 ** 24 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}
