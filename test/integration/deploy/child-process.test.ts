import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { startProcess } from '../../../deploy/local/child-process.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';

const start = (directory: string, code: string, env: Record<string, string> = {}) =>
  startProcess({ name: 'probe', command: process.execPath, args: ['-e', code], env, logFile: join(directory, 'log') });

test('a process that ends before it is ready says how, with its last lines', async (t) => {
  const child = await start(temporaryDirectory(t), "console.error('port in use'); process.exit(3)");
  const waiting = child.untilReady(() => false, 'readiness', 30_000);
  await assert.rejects(waiting, /probe ended \(exit code 3\) before readiness[\s\S]*port in use/);
});

test('a process that does not end when asked to is killed after the deadline', async (t) => {
  const directory = temporaryDirectory(t);
  const child = await start(
    directory,
    "process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000)",
  );
  await waitFor(() => child.lastLogLines() === 'up', { timeoutMs: 10_000, what: 'the child' });
  assert.deepEqual(await child.stop(50), { code: null, signal: 'SIGKILL' });
  assert.deepEqual(await child.stop(), { code: null, signal: 'SIGKILL' });
});

test('only named variables reach a process, and its log is private', async (t) => {
  const directory = temporaryDirectory(t);
  process.env.SECRET_OF_THE_LAUNCHER = 'x';
  t.after(() => delete process.env.SECRET_OF_THE_LAUNCHER);
  const child = await start(directory, 'console.log(JSON.stringify(process.env))', { GIVEN: 'y' });
  assert.equal((await child.ended()).code, 0);
  const env = JSON.parse(readFileSync(child.logFile, 'utf8'));
  assert.equal(env.GIVEN, 'y');
  assert.equal(env.SECRET_OF_THE_LAUNCHER, undefined);
  assert.equal(statSync(child.logFile).mode & 0o777, 0o600);
});

test('a command that does not exist is named', async (t) => {
  const spec = { name: 'probe', command: 'no-such-program', args: [], logFile: join(temporaryDirectory(t), 'log') };
  await assert.rejects(startProcess(spec), /cannot run no-such-program/);
});
