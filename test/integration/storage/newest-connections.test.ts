import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { type KyselyPlugin, sql } from 'kysely';
import {
  begunBefore,
  connectionsAfter,
  listConnections,
  newestConnections,
  unknownBegins,
} from '../../../control-plane/api/list-connections.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import { auditQueries } from '../../../deploy/local/audit-queries.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

const CONNECTIONS = 20_000;

let postgres: TestPostgres;
let database: Database;
before(async () => {
  postgres = await startTestPostgres();
  database = await postgres.database();
  await sql`
    INSERT INTO connections (connection_id, client_id, node, incarnation, state, reason, established_at, closed_at,
      sampled_bytes_in, sampled_bytes_out, sampled_packets_in, sampled_packets_out)
    SELECT gen_random_uuid(), 'client-' || n % 100, 'node-' || n % 2, 'i', 'closed', 'client',
      CASE WHEN n % 1000 > 0 THEN now() - (n / 2) * interval '1 minute' END, now(), 0, 0, 0, 0
    FROM generate_series(1, ${CONNECTIONS}) n`.execute(database);
  await sql`ANALYZE`.execute(database);
});
after(async () => postgres.stop());

async function planOf(query: string): Promise<string> {
  return textOf((await sql<Record<string, string>>`EXPLAIN ${sql.raw(query)}`.execute(database)).rows);
}

/** Without the addresses of one connection, which are sorted, and few. */
function textOf(plan: readonly Record<string, string>[]): string {
  const text = plan.map((row) => row['QUERY PLAN']).join('\n');
  return text.replace(/SubPlan[\s\S]*/, '');
}

function assertReadsFew(plan: string, index: string): void {
  assert.match(plan, new RegExp(`Index Scan using ${index} `), plan);
  assert.doesNotMatch(plan, /Sort|Seq Scan on connections/, plan);
}

test('the newest connections are read from an index, whatever their number', async () => {
  for (const [filter, index] of [
    [{ limit: 100 }, 'connections_newest'],
    [{ limit: 100, clientId: 'client-7' }, 'connections_client'],
  ] as const) {
    assertReadsFew(textOf(await newestConnections(database, filter).explain<Record<string, string>>()), index);
  }
  const [, newest] = auditQueries('10.99.0.1', new Date());
  assertReadsFew(await planOf(newest?.sql ?? ''), 'connections_newest');
});

test('every page is read from its place in an index', async () => {
  const after = randomUUID();
  const begin = new Date().toISOString();
  for (const [filter, index] of [
    [{ limit: 100 }, 'connections_newest'],
    [{ limit: 100, clientId: 'client-7' }, 'connections_client'],
  ] as const) {
    for (const [query, condition] of [
      [begunBefore(database, filter, begin, after), 'established_at <='],
      [unknownBegins(database, filter, after), 'established_at IS NULL'],
    ] as const) {
      const text = textOf(await query.explain<Record<string, string>>());
      assertReadsFew(text, index);
      assert.match(text, new RegExp(`Index Cond: .*${condition}`), text);
    }
  }
});

test('all pages after one another are the whole list, with begins that are the same or unknown', async () => {
  const idsOf = (rows: readonly { connection_id: string }[] = []) => rows.map((row) => row.connection_id);
  for (const clientId of [undefined, 'client-0'] as const) {
    const filter = clientId === undefined ? {} : { clientId };
    const all = idsOf(await newestConnections(database, { ...filter, limit: CONNECTIONS }).execute());
    // Odd, so that pages end between two that began at once, and one has known and unknown begins.
    const limit = clientId === undefined ? 3_333 : 7;
    const pages = idsOf(await newestConnections(database, { ...filter, limit }).execute());
    for (let page = pages; page.length === limit; pages.push(...page)) {
      page = idsOf(await connectionsAfter(database, { ...filter, limit }, page.at(-1) ?? ''));
    }
    assert.deepEqual(pages, all);
  }
  assert.equal(await connectionsAfter(database, { limit: 1 }, randomUUID()), undefined);
});

test('the API and the audit query agree on what is newest: unknown begins come last', async () => {
  const rows = await newestConnections(database, { limit: CONNECTIONS }).execute();
  const firstUnknown = rows.findIndex((row) => row.established_at === null);
  assert.equal(firstUnknown, CONNECTIONS - CONNECTIONS / 1000);
  const [, newest] = auditQueries('10.99.0.1', new Date());
  const { rows: audited } = await sql<{ established_at: Date | null }>`${sql.raw(newest?.sql ?? '')}`.execute(database);
  assert.deepEqual(
    audited.map((row) => row.established_at),
    rows.slice(0, audited.length).map((row) => row.established_at),
  );
});

test('a page is as of one moment: a connection whose begin becomes known meanwhile is in it', async () => {
  const filter = { clientId: 'client-0', limit: CONNECTIONS };
  const [first] = await newestConnections(database, filter).execute();
  const changed = (await unknownBegins(database, filter, undefined).execute()).at(-1)?.connection_id ?? '';
  const setBegin = async (begin: Date | null) => {
    await database
      .updateTable('connections')
      .set({ established_at: begin })
      .where('connection_id', '=', changed)
      .execute();
  };
  // After the statement that reads the known begins, and before the one that reads the unknown ones.
  const between: KyselyPlugin = {
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      if (result.rows.length > 1) await setBegin(new Date());
      return result;
    },
  };
  const page = await listConnections(database.withPlugin(between), filter, first?.connection_id);
  await setBegin(null);
  assert.equal(page.length, CONNECTIONS / 100 - 1);
  assert.ok(page.some(({ id }) => id === changed));
});
