import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import pg from 'pg';
import { AUDITOR_ROLE } from '../../control-plane/storage/auditor-role.ts';
import { auditQueries } from '../../deploy/local/audit-queries.ts';
import { startCluster } from '../../deploy/local/cluster.ts';
import { findProgram } from '../../deploy/local/find-program.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('curl', 'curl');
const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

/** A directory with a curl that appends its arguments to `file`, a line each time, and is curl then. */
function recordingCurl(directory: string, file: string): string {
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  const script = `#!/bin/sh\nprintf '%s ' "$@" >> '${file}'; echo >> '${file}'\nexec '${findProgram('curl')}' "$@"\n`;
  writeFileSync(join(bin, 'curl'), script, { mode: 0o755 });
  return bin;
}

test("README's commands and queries work on a cluster", { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-readme-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const cluster = await startCluster({ directory, nodes: ['node-a'], clients: ['client-1'] });
  t.after(() => cluster.stop());

  const commands = [...readme.matchAll(/<!-- run -->\n```sh\n([\s\S]*?)```/g)].map(([, text]) => text).join('');
  const requests = commands.split('\n').filter((line) => line.includes('/v1/')).length;
  assert.ok(requests > 0);
  const seen = join(directory, 'arguments');
  const env = {
    ...process.env,
    ADMIN_TOKEN: cluster.adminToken,
    CONTROL_PLANE: cluster.controlPlaneUrl,
    PATH: `${recordingCurl(directory, seen)}${delimiter}${process.env.PATH}`,
  };
  execFileSync('sh', ['-e', '-c', commands], { env, encoding: 'utf8' });
  const args = readFileSync(seen, 'utf8');
  assert.equal(args.trim().split('\n').length, requests);
  assert.ok(!args.includes(cluster.adminToken), 'the token must not be seen in the process list');
  const [client] = await cluster.sql<{ name: string }>("SELECT name FROM clients WHERE client_id = 'laptop-7'");
  assert.equal(client?.name, 'Ada');

  const queries = [...readme.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql = '']) => sql);
  assert.equal(queries.length, auditQueries('10.99.0.2', new Date()).length);
  // They are for auditors, so they have to work with the rights of one.
  const auditor = new pg.Client({ connectionString: cluster.databaseUrl, options: `-c role=${AUDITOR_ROLE}` });
  await auditor.connect();
  try {
    for (const sql of queries) await auditor.query(sql);
    const { rows } = await auditor.query('SELECT verdict FROM completeness');
    assert.ok(rows.length > 2 && rows.every(({ verdict }) => verdict === 'complete'), JSON.stringify(rows));
    const changes = await auditor.query(
      "SELECT type, actor FROM admin_changes WHERE subject_id = 'laptop-7' ORDER BY position",
    );
    assert.deepEqual(changes.rows, [
      { type: 'client.enrolled', actor: 'admin' },
      { type: 'client.revoked', actor: 'admin' },
    ]);
  } finally {
    await auditor.end();
  }
});
