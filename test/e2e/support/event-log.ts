import assert from 'node:assert/strict';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import type { EventType } from '../../../shared/events/envelope.ts';
import type { SpoolFile } from './spool-file.ts';

/** What must be empty where nothing was lost and nothing went wrong. */
const TABLES_OF_TROUBLE = ['event_gaps', 'parked_events', 'dead_letter', 'address_conflicts'] as const;

/** Every event of every spool is there once: from 1 on, without a gap or a repeat. */
export async function assertLogIsWhole(cluster: Cluster): Promise<void> {
  const spools = await cluster.sql<{ first: number; last: number; events: number; seqs: number; applied: number }>(
    `SELECT e.node, e.epoch, min(e.seq)::int AS first, max(e.seq)::int AS last, count(*)::int AS events,
            count(DISTINCT e.seq)::int AS seqs, max(n.applied_seq)::int AS applied
       FROM events e LEFT JOIN node_epochs n USING (node, epoch) GROUP BY e.node, e.epoch ORDER BY e.node`,
  );
  for (const spool of spools) {
    const { last } = spool;
    assert.deepEqual(spool, { ...spool, first: 1, events: last, seqs: last, applied: last });
  }
  const [positions] = await cluster.sql(
    'SELECT min(position)::int AS first, max(position)::int = count(*) AS contiguous FROM events',
  );
  assert.deepEqual(positions, { first: 1, contiguous: true });
  for (const table of TABLES_OF_TROUBLE) assert.deepEqual(await cluster.sql(`SELECT * FROM ${table}`), [], table);
}

/** Every event of a spool is in the log, once and unchanged. */
export async function assertSpoolIsInLog(cluster: Cluster, node: string, spool: SpoolFile): Promise<void> {
  const rows = await cluster.sql<{ seq: number; at: Date }>(
    `SELECT node, epoch, seq::int AS seq, incarnation, type, version, at, data FROM events
      WHERE node = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4 ORDER BY seq`,
    [node, spool.epoch, spool.events[0]?.seq ?? spool.lastSeq + 1, spool.lastSeq],
  );
  assert.deepEqual(
    rows.map((row) => ({ ...row, at: row.at.toISOString() })),
    spool.events,
  );
}

export async function countEvents(cluster: Cluster, type: EventType): Promise<number> {
  const [row] = await cluster.sql<{ n: number }>('SELECT count(*)::int AS n FROM events WHERE type = $1', [type]);
  return row?.n ?? 0;
}
