import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from '../../../deploy/local/find-program.ts';
import { needsBinary } from '../../support/requirements.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../..', import.meta.url));
const skip = needsBinary('docker-compose', 'docker-compose');

test('docker-compose accepts the file once every secret of .env.example is filled in', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const envFile = join(directory, 'env');
  writeFileSync(envFile, readFileSync(join(root, '.env.example'), 'utf8').replace(/=$/gm, '=secret-for-the-test'));
  const { stdout } = await compose('--env-file', envFile, '--profile', 'standby', 'config');
  const services = ['nats', 'postgres', 'control-plane', 'control-plane-standby', 'node-a', 'node-b', 'prometheus'];
  for (const service of services) {
    assert.match(stdout, new RegExp(`^  ${service}:$`, 'm'));
  }
  assert.match(stdout, /\/dev\/net\/tun/);
  assert.match(stdout, /NET_ADMIN/);
  assert.match(stdout, /postgres:18/);
  assert.match(stdout, /nats:2\.12/);
});

test('docker-compose names a secret that is missing', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const envFile = join(directory, 'env');
  writeFileSync(envFile, '');
  await assert.rejects(compose('--env-file', envFile, 'config'), /_PASSWORD|ADMIN_TOKEN/);
});

test('nothing secret is written into the file', () => {
  const text = readFileSync(join(root, 'docker-compose.yml'), 'utf8');
  for (const [, value] of text.matchAll(/^ +\w*(?:PASSWORD|TOKEN): *(.+)$/gm)) assert.match(value as string, /\$\{/);
});

function compose(...args: string[]) {
  return run(findProgram('docker-compose') as string, args, { cwd: root, env: { PATH: process.env.PATH } });
}
