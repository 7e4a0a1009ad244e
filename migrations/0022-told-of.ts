import { type Kysely, sql } from 'kysely';
import { commentOnColumns } from './comment-on.ts';

/** Ranges and numbers that a verdict names before it counts the rest (ours). */
const NAMED = sql.lit(5);
/** How long an event may be on its way before a verdict names it (ours): those of the last moment always are. */
const ON_ITS_WAY = sql`interval '10 seconds'`;

/**
 * A verdict also names what the node told of and what is not here, and a spool of which nothing came has one: both were "complete", or nowhere,
 * as long as the node was not heard with another spool.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const more = sql`CASE WHEN count(*) > ${NAMED} THEN format(' and %s more', count(*) - ${NAMED}) ELSE '' END`;
  await sql`
    CREATE OR REPLACE VIEW completeness AS
      SELECT node, epoch, coalesce(e.current, false) AS current, c.first_seq, l.last_seq, coalesce(c.events, 0) AS in_log,
        g.events AS lost, d.events AS dead_letters, p.events AS parked, u.events AS unexplained,
        e.first_at, e.last_at, c.last_recorded_at AS recorded_at,
        coalesce(nullif(concat_ws('; ',
          CASE WHEN g.events > 0 THEN format('%s lost (%s)', g.events, g.ranges) END,
          CASE WHEN d.events > 0 THEN format('%s in dead_letter (%s)', d.events, d.seqs) END,
          CASE WHEN p.events > 0 THEN format('%s parked, %s is awaited', p.events, e.applied_seq + 1) END,
          CASE WHEN u.events <> 0 THEN format('%s not accounted for', u.events) END,
          CASE WHEN r.last_seq > l.last_seq AND least(r.reported_at, c.last_recorded_at) < now() - ${ON_ITS_WAY}
            THEN format('the node told of events up to %s, those behind %s are not all here', r.last_seq, l.last_seq) END,
          CASE WHEN NOT e.current AND c.stopped_seq IS DISTINCT FROM l.last_seq
            THEN format('replaced: whether the spool held more than %s is unknown', l.last_seq) END), ''),
          'complete') AS verdict, r.last_seq AS reported_seq
      FROM node_epochs e FULL JOIN epoch_counts c USING (node, epoch) FULL JOIN spool_reports r USING (node, epoch)
      CROSS JOIN LATERAL (
        SELECT coalesce(sum(to_seq - from_seq + 1), 0)::bigint AS events, max(to_seq) AS last_seq,
          string_agg(concat_ws('-', from_seq, nullif(to_seq, from_seq)), ', ' ORDER BY from_seq) FILTER (WHERE nth <= ${NAMED})
            || ${more} AS ranges
        FROM (
          SELECT from_seq, to_seq, row_number() OVER (ORDER BY from_seq) AS nth
          FROM event_gaps WHERE event_gaps.node = e.node AND event_gaps.epoch = e.epoch) numbered) g
      CROSS JOIN LATERAL (SELECT coalesce(greatest(e.applied_seq, g.last_seq), 0) AS last_seq) l
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
        SELECT l.last_seq - coalesce(c.events, 0) - g.events - d.events AS events) u
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
    completeness: {
      last_seq:
        'The watermark: the fate of every event up to this number is known. Where the end of a spool is lost, the last number that its node told of; 0 where nothing came. Of *: the newest position.',
      reported_seq:
        'The last event that the node said to have on disk; null where it said nothing. What is beyond last_seq is on its way, or at a node that is not back; after 10 seconds the verdict names it.',
    },
  });
}
