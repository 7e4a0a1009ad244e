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

test('promtool accepts the rules', { skip }, async () => {
  const { stdout } = await run('promtool', ['check', 'rules', 'rules.yml'], { cwd: directory });
  assert.match(stdout, /SUCCESS: 11 rules found/);
});

for (const [file, what] of [
  ['success-rate.yml', 'the recording rule yields the part of the tries that was established'],
  ['alerts.yml', 'each alert fires for what it is named after, and not for what is as it should be'],
] as const) {
  test(what, { skip }, async () => {
    await run('promtool', ['test', 'rules', join('test', file)], { cwd: directory });
  });
}

test('every alert has a test, and asks for metrics that there are', () => {
  const rules = readFileSync(join(directory, 'rules.yml'), 'utf8');
  const tests = readFileSync(join(directory, 'test', 'alerts.yml'), 'utf8');
  const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name = '']) => name);
  assert.equal(alerts.length, 10);
  for (const name of alerts) assert.match(tests, new RegExp(`alertname: ${name}\\b`));
  const sources = ['control-plane/metrics/control-metrics.ts', 'data-plane/node-http/node-metrics.ts'].map((file) =>
    readFileSync(join(directory, '../..', file), 'utf8'),
  );
  const asked = new Set([...rules.matchAll(/masque_vpn_(?:control|node)_(\w+)/g)].map(([, name = '']) => name));
  for (const name of asked)
    assert.ok(
      sources.some((text) => text.includes(`${name}'`)),
      name,
    );
});

test('federation keeps the labels of the clusters', () => {
  const text = readFileSync(join(directory, 'federation.yml'), 'utf8');
  assert.match(text, /honor_labels: true/);
  assert.match(text, /"match\[\]"/);
});
