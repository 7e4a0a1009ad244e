import { type Kysely, sql } from 'kysely';
import { commentOn, commentOnColumns } from './comment-on.ts';

/**
 * How far each spool went, as its node said: what is not committed of it when the node comes back with another one is known to be
 * lost, also behind the last event that came.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE spool_reports (
      node text NOT NULL,
      epoch text NOT NULL,
      last_seq bigint NOT NULL,
      reported_at timestamptz NOT NULL,
      PRIMARY KEY (node, epoch)
    ) WITH (fillfactor = 70)`.execute(db);
  await commentOn(db, {
    spool_reports: {
      is: 'How far each spool was when its node last said so, by presence. No projection: presence is not in the log.',
      columns: {
        node: 'The node.',
        epoch: 'The spool.',
        last_seq: 'The greatest number of an event that it was said to have on disk.',
        reported_at: "When that was said, by Postgres' clock.",
      },
    },
  });

  // last_seq is beyond applied_seq where the end of a spool is a gap.
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
          string_agg(concat_ws('-', from_seq, nullif(to_seq, from_seq)), ', ' ORDER BY from_seq) AS ranges
        FROM event_gaps WHERE event_gaps.node = e.node AND event_gaps.epoch = e.epoch) g
      CROSS JOIN LATERAL (SELECT greatest(e.applied_seq, g.last_seq) AS last_seq) l
      CROSS JOIN LATERAL (
        SELECT count(DISTINCT seq) AS events, string_agg(DISTINCT seq::text, ', ') AS seqs
        FROM dead_letter WHERE dead_letter.node = e.node AND dead_letter.epoch = e.epoch AND resolved_at IS NULL) d
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
      CROSS JOIN (SELECT count(*) AS events FROM dead_letter WHERE node IS NULL AND resolved_at IS NULL) d;
    COMMENT ON TABLE event_gaps IS
      'Events whose spool was replaced by a new one before they arrived. Worth an alert: they will not come, unless the disk does. What comes of the end of a spool after all is no gap any more.'
    `.execute(db);
  await commentOnColumns(db, {
    event_gaps: { detected_at: 'When it was found that they do not come.' },
    completeness: {
      last_seq:
        'The watermark: the fate of every event up to this number is known. Where the end of a spool is lost, the last number that its node told of. Of *: the newest position.',
      lost: 'Events that did not come before their spool was replaced: see event_gaps.',
      reported_seq:
        'The last event that the node said to have on disk; null where it said nothing. What is beyond last_seq is on its way, or at a node that is not back.',
    },
  });
}
