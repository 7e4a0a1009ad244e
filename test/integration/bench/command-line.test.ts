import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { AuditReport } from '../../../bench/audit/report.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

const run = (script: string, ...args: string[]) => {
  const file = fileURLToPath(new URL(`../../../bench/${script}`, import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [file, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status, stdout, stderr };
};

for (const [script, options] of [
  ['tunnel.ts', ['--seconds', '--rounds', '--only', '--json', '--help']],
  ['connections.ts', ['--tunnels', '--seconds', '--json', '--help']],
  ['audit.ts', ['--connections', '--traffic', '--data', '--json', '--help']],
  ['nodes.ts', ['--nodes', '--connections', '--seconds', '--json', '--help']],
  ['rebuild.ts', ['--records', '--json', '--help']],
  ['ingest.ts', ['--rate', '--seconds', '--log', '--json', '--help']],
  ['../test/chaos/main.ts', ['--seconds', '--seed', '--json', '--help']],
] as const) {
  test(`${script} --help names every option`, () => {
    const { status, stdout, stderr } = run(script, '--help');
    assert.equal(status, 0);
    assert.equal(stderr, '');
    for (const option of options) assert.ok(stdout.includes(option), option);
  });
}

for (const [script, args, message] of [
  ['tunnel.ts', ['--seconds', '1'], /--seconds: got "1", expected a whole number from 2 to 60/],
  ['tunnel.ts', ['--rounds', '2.5'], /--rounds: got "2.5", expected a whole number from 1 to 20/],
  ['tunnel.ts', ['--only', 'h3,ipsec'], /--only: got "h3,ipsec", expected one or more of raw, openvpn/],
  ['tunnel.ts', ['--tunnels', '5'], /arguments: got "--tunnels", expected one of --seconds, --rounds, --only, --json/],
  ['tunnel.ts', ['fast'], /arguments: got "fast", expected one of --seconds, --rounds/],
  ['connections.ts', ['--seconds', '-1'], /--seconds: got "-1", expected a whole number from 5 to 300/],
  ['nodes.ts', ['--seconds'], /--seconds: got nothing, expected a whole number from 10 to 3600/],
  ['rebuild.ts', ['--records', '--json'], /--records: got nothing, expected a whole number from 1 to 100000/],
  ['ingest.ts', ['--json=yes'], /--json: got "yes", expected no value/],
  [
    '../test/chaos/main.ts',
    ['--bogus=1'],
    /arguments: got "--bogus", expected one of --seconds, --seed, --json, --help/,
  ],
  ['connections.ts', ['--tunnels', '0'], /--tunnels: got "0", expected a whole number from 1 to 600/],
  ['nodes.ts', ['--nodes', '0'], /--nodes: got "0", expected a whole number from 1 to 2000/],
  ['ingest.ts', ['--rate', '10'], /--rate: got "10", expected a whole number from 1000 to 100000/],
  ['rebuild.ts', ['--records', '0'], /--records: got "0", expected a whole number from 1 to 100000/],
  ['../test/chaos/main.ts', ['--seed', '1.5'], /--seed: got "1.5", expected a whole number from 0 to 4294967295/],
  ['../test/chaos/main.ts', ['--seconds', '1'], /--seconds: got "1", expected a whole number from 5 to 86400/],
  ['audit.ts', ['--connections', '5'], /--connections: got "5", expected a whole number from 10000 to 10000000/],
  ['audit.ts', ['--traffic', '10'], /--traffic: got "10", expected a whole number from 5000000 to 100000000/],
  [
    'audit.ts',
    ['--data', '/proc/audit'],
    /--data: got "\/proc\/audit", expected a directory that it can make and write/,
  ],
  ['connections.ts', ['--seconds', ''], /--seconds: got "", expected a whole number from 5 to 300/],
] as const) {
  test(`${script} ${args.join(' ')} is refused with what is allowed`, () => {
    const { status, stdout, stderr } = run(script, ...args);
    assert.equal(status, 2);
    assert.equal(stdout, '');
    assert.match(stderr, message);
    assert.match(stderr, /^[^\n]+; help: npm run [a-z:]+ -- --help\n$/, 'one line that says where more is');
  });
}

test('bench:audit fills a small Postgres, asks everything, and says how long it took; what else is in --data stays', (t) => {
  const directory = temporaryDirectory(t);
  const other = join(directory, 'other');
  writeFileSync(other, 'of somebody else');
  const { status, stdout, stderr } = run('audit.ts', '--connections', '10000', '--data', directory, '--json');
  assert.equal(readFileSync(other, 'utf8'), 'of somebody else');
  // How long it takes is not for a test to judge.
  assert.ok(status === 0 || status === 1, stderr);
  const report = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as AuditReport;
  assert.equal(report.bars.length, report.questions.length);
  for (const { name, keys, mostRows } of report.questions) {
    assert.equal(keys, 8, name);
    // So few connections leave a client or address without any on most days; nothing leaks.
    assert.ok(mostRows > 0 || name.includes('on a day') || name.startsWith('leaked_addresses'), name);
  }
});
