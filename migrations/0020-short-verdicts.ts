import { type Kysely, sql } from 'kysely';
import { commentOnColumns } from './comment-on.ts';

/** Ranges and numbers that a verdict names before it counts the rest (ours): `event_gaps`, `dead_letter` and `epoch_proof` have all. */
const NAMED = sql.lit(5);

/** A verdict stays a line that people can read, however much is missing: one that named a thousand ranges was none. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const more = sql`CASE WHEN count(*) > ${NAMED} THEN format(' and %s more', count(*) - ${NAMED}) ELSE '' END`;
  await sql`
    CREATE OR REPLACE VIEW completeness AS
      SELECT node, epoch, e.current, c.first_seq, l.last_seq, coalesce(c.events, 0) AS in_log,
        g.events AS lost, d.events AS dead_letters, p.events AS parked, u.events AS unexplained,
        e.first_at, e.last_at, c.last_recorded_at AS recorded_at,
        coalesce(nullif(concat_ws('; ',
          CASE WHEN g.events > 0 THEN format('%s lost (%s)', g.events, g.ranges) END,
          CASE WHEN d.events > 0 THEN format('%s in dead_letter (%s)', d.events, d.seqs) END,
          CASE WHEN p.events > 0 THEN format('%s parked, %s is awaited', p.events, e.applied_seq + 1) END,
          CASE WHEN u.events <> 0 THEN format('%s not accounted for', u.events) END,
          CASE WHEN NOT e.current AND c.stopped_seq IS DISTINCT FROM l.last_seq
            THEN format('replaced: whether the spool held more than %s is unknown', l.last_seq) END), ''),
          'complete') AS verdict, r.last_seq AS reported_seq
      FROM node_epochs e FULL JOIN epoch_counts c USING (node, epoch) LEFT JOIN spool_reports r USING (node, epoch)
      CROSS JOIN LATERAL (
        SELECT coalesce(sum(to_seq - from_seq + 1), 0)::bigint AS events, max(to_seq) AS last_seq,
          string_agg(concat_ws('-', from_seq, nullif(to_seq, from_seq)), ', ' ORDER BY from_seq) FILTER (WHERE nth <= ${NAMED})
            || ${more} AS ranges
        FROM (
          SELECT from_seq, to_seq, row_number() OVER (ORDER BY from_seq) AS nth
          FROM event_gaps WHERE event_gaps.node = e.node AND event_gaps.epoch = e.epoch) numbered) g
      CROSS JOIN LATERAL (SELECT greatest(e.applied_seq, g.last_seq) AS last_seq) l
      CROSS JOIN LATERAL (
        SELECT count(*) AS events,
          string_agg(seq::text, ', ' ORDER BY seq) FILTER (WHERE nth <= ${NAMED}) || ${more} AS seqs
        FROM (
          SELECT seq, row_number() OVER (ORDER BY seq) AS nth
          FROM dead_letter WHERE dead_letter.node = e.node AND dead_letter.epoch = e.epoch AND resolved_at IS NULL AND seq IS NOT NULL
          GROUP BY seq) numbered) d
      CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM parked_events
        WHERE parked_events.node = e.node AND parked_events.epoch = e.epoch) p
      CROSS JOIN LATERAL (
        SELECT coalesce(l.last_seq, 0) - coalesce(c.events, 0) - g.events - d.events AS events) u
      UNION ALL
      SELECT '*', '*', true, least(1, l.position), l.position, c.events, 0, d.events, 0, l.position - c.events,
        NULL, NULL, l.committed_at,
        coalesce(nullif(concat_ws('; ',
          CASE WHEN d.events > 0 THEN format('%s messages could not be read: see dead_letter', d.events) END,
          CASE WHEN l.position <> c.events THEN format('%s not accounted for', l.position - c.events) END), ''),
          'complete'), NULL
      FROM event_checkpoint l
      CROSS JOIN (SELECT coalesce(sum(events), 0)::bigint AS events FROM epoch_counts) c
      CROSS JOIN (SELECT count(*) AS events FROM dead_letter WHERE node IS NULL AND resolved_at IS NULL) d`.execute(db);
  await commentOnColumns(db, {
    completeness: { verdict: 'complete, or what is missing; epoch_proof(node, epoch) has all of a long list.' },
  });
}
