import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { needsRoot } from '../../support/requirements.ts';

const main = fileURLToPath(new URL('../../../deploy/local/main.ts', import.meta.url));
const start = (...args: string[]) => spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });

test('--help describes the command', () => {
  const { status, stdout } = start('--help');
  assert.equal(status, 0);
  assert.match(stdout, /--once --json/);
});

test('arguments that it does not know end it with 2, and are named', () => {
  for (const args of [['--twice'], ['--json'], ['extra']]) {
    const { status, stderr } = start(...args);
    assert.equal(status, 2, args.join(' '));
    assert.match(stderr, new RegExp(args[0] as string));
  }
});

test('who is not root is told so in one line', { skip: needsRoot() }, () => {
  const options = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+dac_read_search'];
  const { status, stderr } = spawnSync(
    'setpriv',
    [...options, '--ambient-caps=+dac_read_search', process.execPath, main, '--once'],
    { encoding: 'utf8' },
  );
  assert.equal(status, 1);
  assert.match(stderr, /^masque-vpn: a local cluster needs root.*\n$/);
});
