import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ClientStatus, StatusFile } from '../../../data-plane/client/status-file.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

const status: ClientStatus = {
  state: 'connected',
  url: 'https://vpn.example/',
  tun: 'masque0',
  transport: 'http3',
  addresses: ['10.99.0.7/32'],
  mtu: 1400,
  connects: 1,
  bytesSent: 2,
  bytesReceived: 3,
  packetsSent: 4,
  packetsReceived: 5,
  lastError: null,
};

test('the status is whole, for its owner only, and leaves nothing else behind', (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'status.json');
  const file = new StatusFile(path, { warn: assert.fail });
  file.write(status);
  file.write({ ...status, state: 'closed' });
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { ...status, state: 'closed' });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(directory), ['status.json']);
});

test('where it cannot be written the log says so once, and again when it had worked meanwhile', (t) => {
  const directory = join(temporaryDirectory(t), 'gone');
  const path = join(directory, 'status.json');
  const warnings: string[] = [];
  const file = new StatusFile(path, { warn: (text: unknown) => void warnings.push(String(text)) });
  file.write(status);
  file.write(status);
  assert.deepEqual([warnings.length, warnings[0]?.includes(directory)], [1, true]);
  mkdirSync(directory);
  file.write(status);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), status);
  rmSync(directory, { recursive: true });
  file.write(status);
  assert.equal(warnings.length, 2);
});
