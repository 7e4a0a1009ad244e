import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import pg from 'pg';
import { startPostgres } from '../../../deploy/local/postgres.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

test('Postgres keeps its data, port and password over a stop and a kill', async (t) => {
  const directory = temporaryDirectory(t);
  let server = await startPostgres({ directory });
  t.after(() => server.kill());
  const { url } = server;
  await query(url, 'CREATE TABLE kept AS SELECT 1 AS n');
  await server.kill();
  server = await server.restart();
  assert.equal(server.url, url);
  assert.deepEqual(await query(url, 'SELECT n FROM kept'), [{ n: 1 }]);
  await server.stop();
  server = await server.restart();
  assert.deepEqual(await query(url, 'SELECT n FROM kept'), [{ n: 1 }]);
  assert.equal(statSync(join(directory, 'password')).mode & 0o777, 0o600);
});

test('a server has several databases, and each is there once', async (t) => {
  const server = await startPostgres({ directory: temporaryDirectory(t), settings: { fsync: 'off' } });
  t.after(() => server.stop());
  const url = await server.createDatabase('other');
  assert.equal(await server.createDatabase('other'), url);
  assert.deepEqual(await query(url, 'SELECT current_database() AS name'), [{ name: 'other' }]);
});

test('a wrong password is refused', async (t) => {
  const server = await startPostgres({ directory: temporaryDirectory(t), settings: { fsync: 'off' } });
  t.after(() => server.stop());
  const url = new URL(server.url);
  url.password = 'wrong';
  await assert.rejects(query(url.href, 'SELECT 1'), /password authentication failed/);
});
