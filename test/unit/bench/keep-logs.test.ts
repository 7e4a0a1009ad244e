import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { keepLogs } from '../../../bench/keep-logs.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

function write(directory: string, files: readonly string[]): void {
  for (const file of files) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    writeFileSync(join(directory, file), file);
  }
}

test('logs stay where they are, and data and directories without logs go', (t) => {
  const directory = join(temporaryDirectory(t), 'bench');
  write(directory, [
    'control-plane.log',
    'nats/nats-server.log',
    'nats/jetstream/$G/streams/EVENTS/msgs/1.blk',
    'postgres/postgres.log',
    'postgres/data/base/1/1259',
    'nodes/nodes-state/node-0/node.sqlite',
    'nodes/nodes.json',
    'pki/ca-key.pem',
  ]);
  assert.equal(keepLogs(directory), true);
  assert.deepEqual(readdirSync(directory, { recursive: true }).sort(), [
    'control-plane.log',
    'nats',
    'nats/nats-server.log',
    'postgres',
    'postgres/postgres.log',
  ]);
  assert.equal(readFileSync(join(directory, 'nats/nats-server.log'), 'utf8'), 'nats/nats-server.log');
});

test('where there are no logs, nothing stays', (t) => {
  const directory = join(temporaryDirectory(t), 'bench');
  write(directory, ['postgres/data/base/1/1259']);
  mkdirSync(join(directory, 'empty'));
  assert.equal(keepLogs(directory), false);
  assert.equal(existsSync(directory), false);
});

test('links go, and what they lead to stays', (t) => {
  const [directory, elsewhere] = [join(temporaryDirectory(t), 'bench'), temporaryDirectory(t)];
  write(elsewhere, ['data', 'other.log']);
  write(directory, ['a.log']);
  symlinkSync(elsewhere, join(directory, 'elsewhere'));
  symlinkSync(join(elsewhere, 'other.log'), join(directory, 'other.log'));
  assert.equal(keepLogs(directory), true);
  assert.deepEqual(readdirSync(directory), ['a.log']);
  assert.deepEqual(readdirSync(elsewhere).sort(), ['data', 'other.log']);
});
