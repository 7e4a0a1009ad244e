import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { controlPlaneVariables } from '../../../control-plane/config.ts';
import { CLUSTER_FAMILIES } from '../../../control-plane/metrics/contract.ts';
import { CLIENT_USAGE } from '../../../data-plane/client/config.ts';
import { nodeVariables } from '../../../data-plane/config.ts';
import { LIMITS } from '../../../data-plane/limits.ts';
import { auditQueries } from '../../../deploy/local/audit-queries.ts';
import type { Variables } from '../../../shared/config/parse-config.ts';

const root = new URL('../../../', import.meta.url);
const read = (file: string): string => readFileSync(new URL(file, root), 'utf8');
const readme = read('README.md');

function rowsOf(variables: Variables): string[] {
  return Object.entries(variables).map(([name, { fallback, help, expected }]) => {
    const cell = fallback === undefined ? 'required' : fallback === '' ? '' : `\`${fallback}\``;
    return `| \`${name}\` | ${cell} | ${help}: ${expected} |`;
  });
}

test('README lists every variable as the processes read it', () => {
  for (const row of [...rowsOf(controlPlaneVariables), ...rowsOf(nodeVariables)]) assert.ok(readme.includes(row), row);
});

test("README lists every argument of the client's help", () => {
  for (const [argument] of CLIENT_USAGE.matchAll(/--[a-z-]+(?= [A-Z])/g))
    assert.ok(readme.includes(`\`${argument} `) || readme.includes(` ${argument} `), argument);
});

test('README lists every metric family with its type', () => {
  for (const { name, type } of Object.values(CLUSTER_FAMILIES))
    assert.ok(readme.includes(`| \`${name}\` | ${type} |`), name);
});

test('README says what each limit of a node is', () => {
  const named = [...readme.matchAll(/^\| `([a-z_]+)` \| .* \| .* \|$/gm)].map(([, limit]) => limit);
  for (const limit of LIMITS) assert.ok(named.includes(limit), limit);
});

test('README shows the audit queries that npm start prints', () => {
  const [address, at] = /Who held (\S+) at (\S+Z),/.exec(readme)?.slice(1) ?? [];
  assert.ok(address && at);
  for (const { question, sql } of auditQueries(address, new Date(at))) {
    assert.ok(readme.includes(question), question);
    assert.ok(readme.includes(`\`\`\`sql\n${sql}\n\`\`\``), sql);
  }
});

test('README and CONTRIBUTING name only files and scripts that exist', () => {
  const scripts = Object.keys((JSON.parse(read('package.json')) as { scripts: object }).scripts);
  for (const text of [readme, read('CONTRIBUTING.md')]) {
    for (const [, path = ''] of text.matchAll(
      /`((?:data-plane|control-plane|shared|deploy|migrations|test|bench)\/[\w./-]*)`/g,
    )) {
      assert.ok(existsSync(fileURLToPath(new URL(path, root))), path);
    }
    for (const [, script = ''] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(scripts.includes(script), script);
  }
});
