import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { Administrator } from '../../../control-plane/log/append-admin-event.ts';
import { DEFAULT_BLOCK_LENGTH } from '../../../control-plane/pools/block-lengths.ts';
import { PoolService } from '../../../control-plane/pools/pool-service.ts';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { lockProjections } from '../../../control-plane/storage/projection-lock.ts';
import { startPostgres } from '../../../deploy/local/postgres.ts';
import { DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';

export interface TestPostgres {
  /** A database of its own, with the schema (or as the migration `to` left it). */
  database(to?: string): Promise<Database>;
  /** Where the newest one is, for other processes. */
  url(): string;
  /** Kills it and starts it again. */
  crash(): Promise<void>;
  stop(): Promise<void>;
}

/** Who rebuilds in tests that do so without the command. */
export const ADMINISTRATOR: Administrator = { actor: 'cli:ada', incarnation: randomBytes(16).toString('hex') };

/** One Postgres for a test file; its machine never crashes, so nothing need reach the disk. */
export async function startTestPostgres(): Promise<TestPostgres> {
  const directory = await mkdtemp(join(tmpdir(), 'projector-postgres-'));
  let server = await startPostgres({ directory, settings: { fsync: 'off' } });
  const open: Database[] = [];
  let url = server.url;
  return {
    url: () => url,
    async database(to) {
      url = await server.createDatabase(`test_${open.length}`);
      const database = createDatabase(createPool(url, 'test', () => undefined));
      open.push(database);
      await migrate(database, to);
      return database;
    },
    async crash() {
      await server.kill();
      server = await server.restart();
    },
    async stop() {
      await Promise.all(open.map((database) => database.destroy()));
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Takes over, as a new leader does. */
export async function beginTerm(database: Database): Promise<number> {
  return await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    const { owner_epoch } = await trx
      .updateTable('leadership')
      .set(({ eb }) => ({ owner_epoch: eb('owner_epoch', '+', 1), confirmed_at: sql`now()` }))
      .returning('owner_epoch')
      .executeTakeFirstOrThrow();
    return owner_epoch;
  });
}

/** A pool in the blocks of the configuration's defaults, as if an administrator had added it. */
export async function addPool(database: Database, name: string, prefixes: readonly string[]): Promise<void> {
  const { owner_epoch: ownerEpoch } = await database
    .selectFrom('leadership')
    .select('owner_epoch')
    .executeTakeFirstOrThrow();
  const pools = new PoolService({ database, incarnation: randomBytes(16).toString('hex') });
  const layout = { prefixes: prefixes.map(parsePrefix), blockLength: DEFAULT_BLOCK_LENGTH };
  if (name === DEFAULT_POOL) await pools.configureDefault({ ownerEpoch }, layout);
  else await pools.add({ ownerEpoch }, name, layout, 'test');
}

export async function counters(database: Database): Promise<Record<string, number>> {
  const rows = await database.selectFrom('event_counters').selectAll().execute();
  return Object.fromEntries(rows.map(({ name, label, value }) => [`${name}.${label}`, value]));
}

/** Everything that the projections say, without what only tells when it was written. */
export async function everything(database: Database): Promise<Record<string, unknown[]>> {
  const tables = {
    nodes: 'node',
    clients: 'client_id',
    admin_events: 'position',
    connections: 'connection_id',
    connection_failures: 'position',
    traffic: 'position, connection_id',
    traffic_fold: 'singleton',
    traffic_hourly: 'client_id, hour, node',
    traffic_daily: 'client_id, day, node',
    ip_ledger: 'id',
    block_grants: 'id',
    address_assignments: 'assigned_position',
    held: 'pool, address',
    event_counters: 'name, label',
    client_totals: 'client_id',
    client_histograms: 'client_id, family, quantile',
    event_gaps: 'node, epoch, from_seq',
  };
  const result: Record<string, unknown[]> = {};
  for (const [table, order] of Object.entries(tables)) {
    const { rows } = await sql<Record<string, unknown>>`
      SELECT to_jsonb(t) - '{id,recorded_at,detected_at}'::text[] AS row
      FROM ${sql.table(table)} t ORDER BY ${sql.raw(order)}`.execute(database);
    result[table] = rows.map(({ row }) => row);
  }
  return result;
}
