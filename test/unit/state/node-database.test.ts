import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';

function directory(t: { after(fn: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'node-state-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

const insert = (address: string) => (db: DatabaseSync) =>
  void db.prepare("INSERT INTO assignments VALUES (?, 'c', 'x', 1, NULL)").run(address);
const count = (database: NodeDatabase) =>
  Number(database.reader.prepare('SELECT count(*) AS n FROM assignments').get()?.n);

test('a commit that throws takes back its own writes only', async (t) => {
  const database = new NodeDatabase(directory(t));
  const first = database.commit(insert('10.0.0.1'));
  const failing = database.commit((db) => {
    insert('10.0.0.2')(db);
    throw new Error('refused');
  });
  const last = database.commit(insert('10.0.0.3'));
  await first;
  await assert.rejects(failing, /refused/);
  await last;
  assert.equal(count(database), 2);
  database.close();
});

test('what is committed is there when the file is opened again', async (t) => {
  const path = directory(t);
  const database = new NodeDatabase(path);
  await database.commit(insert('10.0.0.1'));
  database.close();
  const again = new NodeDatabase(path);
  assert.equal(count(again), 1);
  again.close();
});

test('the directory that it made belongs to its owner alone', (t) => {
  const path = join(directory(t), 'state');
  const database = new NodeDatabase(path);
  assert.equal(statSync(path).mode & 0o777, 0o700);
  database.close();
});

test('in a directory that others can read they cannot read its files', async (t) => {
  const path = directory(t);
  chmodSync(path, 0o755);
  const database = new NodeDatabase(path);
  await database.commit(insert('10.0.0.1'));
  const files = readdirSync(path);
  assert.deepEqual(files.sort(), ['node.sqlite', 'node.sqlite-wal']);
  for (const file of files) assert.equal(statSync(join(path, file)).mode & 0o777, 0o600, file);
  database.close();
});

test('a directory that is in use is refused with its name', (t) => {
  const path = directory(t);
  const database = new NodeDatabase(path);
  assert.throws(() => new NodeDatabase(path), { code: 'STATE_IN_USE', message: /node\.sqlite is in use/ });
  database.close();
  new NodeDatabase(path).close();
});

test('a damaged file is refused with one clear error', (t) => {
  const path = directory(t);
  writeFileSync(join(path, 'node.sqlite'), Buffer.alloc(8192, 'not a database '));
  assert.throws(() => new NodeDatabase(path), { code: 'STATE_CORRUPT', message: /node\.sqlite is damaged/ });
});

test('a file of a newer build is refused', (t) => {
  const path = directory(t);
  const db = new DatabaseSync(join(path, 'node.sqlite'));
  db.exec('PRAGMA user_version = 99');
  db.close();
  assert.throws(() => new NodeDatabase(path), { code: 'STATE_TOO_NEW', message: /version 99/ });
});
