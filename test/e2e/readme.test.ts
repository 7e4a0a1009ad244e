import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startCluster } from '../../deploy/local/cluster.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('curl', 'curl');
const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test("README's commands and queries work on a cluster", { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-readme-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const cluster = await startCluster({ directory, nodes: ['node-a'], clients: ['client-1'] });
  t.after(() => cluster.stop());

  const commands =
    readme
      .match(/<!-- run -->\n```sh\n([\s\S]*?)```/)?.[1]
      ?.trim()
      .split('\n') ?? [];
  assert.ok(commands.length > 0);
  const env = { ...process.env, ADMIN_TOKEN: cluster.adminToken, CONTROL_PLANE: cluster.controlPlaneUrl };
  for (const command of commands) execFileSync('sh', ['-c', command], { env, encoding: 'utf8' });
  const [client] = await cluster.sql<{ name: string }>("SELECT name FROM clients WHERE client_id = 'laptop-7'");
  assert.equal(client?.name, 'Ada');

  const queries = [...readme.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql = '']) => sql);
  assert.equal(queries.length, 3);
  for (const sql of queries) await cluster.sql(sql);
});
