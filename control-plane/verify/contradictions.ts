import { type RawBuilder, sql } from 'kysely';
import { MOVED } from '../projections/folded-rows.ts';
import type { Database } from '../storage/database.ts';
import { decidedStates } from './decided-states.ts';
import { type Telling, tell } from './tell.ts';

type Row = Readonly<Record<string, unknown>>;

/** A question about the live tables whose answer is no row. Its rows are `key` (json) and `detail` (text). */
export interface Contradiction {
  readonly name: string;
  readonly rows: RawBuilder<{ key: Row; detail: string }>;
}

const sumOfMoved = sql.raw(MOVED.map((column) => `sum(${column}) AS ${column}`).join(', '));

/**
 * What has to hold between live tables. Rows of traffic before `firstTraffic` have been dropped, and events up to
 * `snapshotPosition` may have been.
 */
export function contradictions(firstTraffic: number, snapshotPosition: number): Contradiction[] {
  return [
    {
      name: 'connections against their traffic',
      rows: sql`
        SELECT json_build_object('connection', c.connection_id) AS key,
          format('bytes in and out, packets in and out: %s %s %s %s, its traffic rows add up to %s %s %s %s',
            c.bytes_in, c.bytes_out, c.packets_in, c.packets_out, coalesce(t.bytes_in, 0), coalesce(t.bytes_out, 0), coalesce(t.packets_in, 0), coalesce(t.packets_out, 0))
            AS detail
        FROM connections c
        LEFT JOIN (
          SELECT connection_id, ${sumOfMoved} FROM traffic GROUP BY connection_id
        ) t USING (connection_id)
        WHERE (c.bytes_in, c.bytes_out, c.packets_in, c.packets_out) IS DISTINCT FROM
            (coalesce(t.bytes_in, 0), coalesce(t.bytes_out, 0), coalesce(t.packets_in, 0), coalesce(t.packets_out, 0))
          AND (${firstTraffic} = 0 OR EXISTS (
            SELECT FROM address_assignments a
            WHERE a.connection_id = c.connection_id AND a.assigned_position >= ${firstTraffic}))`,
    },
    {
      name: 'reports of the end against the windows',
      // A window that was counted twice looks so: the node never counts less than it told in windows.
      rows: sql`
        SELECT json_build_object('connection', connection_id) AS key,
          format('bytes in and out, packets in and out: %s %s %s %s at its end, its windows add up to %s %s %s %s',
            close_bytes_in, close_bytes_out, close_packets_in, close_packets_out, sampled_bytes_in, sampled_bytes_out,
            sampled_packets_in, sampled_packets_out) AS detail
        FROM connections
        WHERE sampled_bytes_in > close_bytes_in OR sampled_bytes_out > close_bytes_out
          OR sampled_packets_in > close_packets_in OR sampled_packets_out > close_packets_out`,
    },
    {
      name: 'assignments against the ledger',
      rows: sql`
        SELECT json_build_object('address', a.address, 'position', a.assigned_position) AS key,
          CASE WHEN given.position IS NULL THEN 'the ledger has no entry that it was assigned'
            ELSE 'it has ended, and the ledger has no entry that it was released' END AS detail
        FROM address_assignments a
        LEFT JOIN ip_ledger given ON given.position = a.assigned_position AND given.entry = 'assigned'
          AND given.address = a.address AND given.connection_id = a.connection_id
        WHERE given.position IS NULL
          -- What was over before it was reported has its release still to come.
          OR (NOT upper_inf(a.during) AND a.ended_position > a.assigned_position AND NOT EXISTS (
            SELECT FROM ip_ledger taken WHERE taken.address = a.address AND taken.connection_id = a.connection_id
              AND taken.entry = 'released' AND taken.position > a.assigned_position))`,
    },
    {
      name: 'ledger against the assignments',
      rows: sql`
        SELECT json_build_object('entry', l.entry, 'address', l.address, 'position', l.position) AS key,
          CASE WHEN l.entry = 'assigned' THEN 'there is no such assignment' ELSE 'the assignment has not ended' END AS detail
        FROM ip_ledger l
        WHERE (l.entry = 'assigned' AND NOT EXISTS (
            SELECT FROM address_assignments a WHERE a.assigned_position = l.position AND a.address = l.address
              AND a.connection_id = l.connection_id))
          OR (l.entry = 'released' AND EXISTS (
            SELECT FROM address_assignments a WHERE a.address = l.address AND a.connection_id = l.connection_id
              AND a.assigned_position < l.position AND upper_inf(a.during)))`,
    },
    {
      name: 'addresses held against the assignments',
      rows: sql`
        SELECT json_build_object('address', coalesce(h.address, a.address)) AS key,
          CASE WHEN h.address IS NULL THEN 'it is assigned, but not held'
            ELSE format('%s holds it since %s, released %s, which is not its newest assignment', h.client_id, h.since,
              coalesce(h.released_at::text, 'never')) END AS detail
        FROM held h
        FULL JOIN (
          SELECT DISTINCT ON (pool, address) pool, address, connection_id, lower(during) AS since, upper(during) AS until
          FROM address_assignments ORDER BY pool, address, lower(during) DESC
        ) a ON a.pool = h.pool AND a.address = h.address
        WHERE (h.address IS NULL AND a.until IS NULL)
          OR (h.address IS NOT NULL AND (h.connection_id, h.since, h.released_at)
            IS DISTINCT FROM (a.connection_id, a.since, a.until))`,
    },
    {
      name: 'assignments that overlap',
      rows: sql`
        SELECT json_build_object('address', a.address, 'position', a.assigned_position) AS key,
          format('%s held it on %s at the same time as %s on %s, position %s', a.client_id, a.node, b.client_id, b.node,
            b.assigned_position) AS detail
        FROM address_assignments a
        JOIN address_assignments b ON b.address = a.address AND b.during && a.during AND b.id > a.id`,
    },
    {
      name: 'totals of clients against their days',
      rows: sql`
        SELECT json_build_object('client', client_id) AS key,
          format('bytes received and sent, packets received and sent: %s %s %s %s, its days add up to %s %s %s %s',
            t.bytes_received, t.bytes_sent, t.packets_received, t.packets_sent, d.bytes_in, d.bytes_out, d.packets_in,
            d.packets_out) AS detail
        FROM client_totals t
        FULL JOIN (
          SELECT client_id, ${sumOfMoved} FROM traffic_daily GROUP BY client_id
        ) d USING (client_id)
        WHERE (coalesce(t.bytes_received, 0), coalesce(t.bytes_sent, 0), coalesce(t.packets_received, 0),
            coalesce(t.packets_sent, 0))
          IS DISTINCT FROM (coalesce(d.bytes_in, 0), coalesce(d.bytes_out, 0), coalesce(d.packets_in, 0),
            coalesce(d.packets_out, 0))`,
    },
    {
      name: 'days of traffic against their hours',
      rows: sql`
        SELECT json_build_object('day', day, 'client', client_id, 'node', node) AS key,
          format('bytes in and out, packets in and out: %s %s %s %s, its hours add up to %s %s %s %s', d.bytes_in,
            d.bytes_out, d.packets_in, d.packets_out, h.bytes_in, h.bytes_out, h.packets_in, h.packets_out) AS detail
        FROM traffic_daily d
        FULL JOIN (
          SELECT (hour AT TIME ZONE 'UTC')::date AS day, client_id, node, ${sumOfMoved}
          FROM traffic_hourly GROUP BY 1, 2, 3
        ) h USING (day, client_id, node)
        WHERE (d.bytes_in, d.bytes_out, d.packets_in, d.packets_out)
          IS DISTINCT FROM (h.bytes_in, h.bytes_out, h.packets_in, h.packets_out)`,
    },
    {
      name: 'counters against rows',
      rows: sql`
        SELECT json_build_object('counter', counted.name, 'label', counted.label) AS key,
          format('it is %s, the rows make %s', coalesce(c.value, 0), counted.value) AS detail
        FROM (
          SELECT 'connections' AS name, 'established' AS label, count(*) AS value FROM connections
            WHERE established_at IS NOT NULL
          UNION ALL SELECT 'connections', 'closed', count(*) FROM connections WHERE state = 'closed'
          UNION ALL SELECT 'connections', 'failed', coalesce(sum(count), 0) FROM connection_failures
          UNION ALL
          SELECT 'errors', type, coalesce((SELECT sum(count) FROM connection_failures WHERE error_type = type), 0)
            FROM unnest(ARRAY['auth', 'connection']) AS types (type)
        ) counted LEFT JOIN event_counters c ON c.name = counted.name AND c.label = counted.label
        WHERE coalesce(c.value, 0) <> counted.value`,
    },
    {
      name: 'positions of the log',
      rows: sql`
        SELECT json_build_object('log', 'events') AS key,
          format('%s events from position %s to %s, the checkpoint is at %s', e.count, e.first, e.last, c.position) AS detail
        FROM (SELECT count(*) AS count, min(position) AS first, max(position) AS last FROM events) e, event_checkpoint c
        WHERE coalesce(e.last, ${snapshotPosition}::bigint) <> c.position OR e.first > ${snapshotPosition}::bigint + 1
          OR (e.count > 0 AND e.count <> e.last - e.first + 1)`,
    },
    ...decidedStates(),
  ];
}

/** Asks one question, as the caller's transaction sees the tables, and returns the number of rows of its answer. */
export async function findContradictions(
  database: Database,
  { name, rows }: Contradiction,
  telling: Telling,
): Promise<number> {
  return await tell(database, rows, telling, ({ key, detail }) => ({
    type: 'contradiction',
    check: name,
    key,
    detail,
  }));
}
