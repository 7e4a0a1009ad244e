import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needsBinary } from '../../support/requirements.ts';

const run = promisify(execFile);
const directory = fileURLToPath(new URL('../../../deploy/prometheus', import.meta.url));
const skip = needsBinary('promtool', 'prometheus');

for (const file of ['prometheus.yml', 'federation.yml']) {
  test(`promtool accepts ${file}`, { skip }, async () => {
    const { stdout } = await run('promtool', ['check', 'config', file], { cwd: directory });
    assert.match(stdout, /SUCCESS/);
  });
}

test('promtool accepts the recording rule', { skip }, async () => {
  const { stdout } = await run('promtool', ['check', 'rules', 'rules.yml'], { cwd: directory });
  assert.match(stdout, /1 rules found/);
});

test('the recording rule yields the part of the tries that was established', { skip }, async () => {
  await run('promtool', ['test', 'rules', join('test', 'success-rate.yml')], { cwd: directory });
});

test('federation keeps the labels of the clusters', () => {
  const text = readFileSync(join(directory, 'federation.yml'), 'utf8');
  assert.match(text, /honor_labels: true/);
  assert.match(text, /"match\[\]"/);
});
