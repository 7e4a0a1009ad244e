import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

const BENCHMARK = fileURLToPath(new URL('./benchmark-that-ends.ts', import.meta.url));

for (const [title, end, status] of [
  ['a benchmark that misses a bar leaves its logs, says where, and none of its data', 'missed', 1],
  ['a benchmark that breaks leaves its logs, says where, and none of its data', 'broken', 1],
  ['a benchmark whose bars are met leaves nothing', 'met', 0],
] as const) {
  test(title, (t) => {
    const directory = temporaryDirectory(t);
    const env = { ...process.env, TMPDIR: directory };
    const done = spawnSync(process.execPath, [BENCHMARK, end], { encoding: 'utf8', timeout: 30_000, env });
    assert.equal(done.status, status, done.stderr);
    const [name, ...others] = readdirSync(directory);
    assert.deepEqual(others, []);
    if (status === 0) {
      assert.equal(name, undefined);
      assert.doesNotMatch(done.stderr, /logs stay/);
      return;
    }
    assert.match(done.stderr, new RegExp(`^bench:nothing: logs stay in ${join(directory, String(name))}$`, 'm'));
    const left = readdirSync(join(directory, String(name)), { recursive: true });
    assert.deepEqual(left.sort(), ['server', 'server/server.log']);
  });
}
