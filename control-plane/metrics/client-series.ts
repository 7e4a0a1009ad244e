import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';
import { assignSeries, type SeriesAssignment, type SeriesCandidate } from './assign-series.ts';

/**
 * Keeps the number of clients with series of their own within `limit`. What a client had counted when it gets its own
 * series (back) stays in `_other` as `folded`, and what it shows is total minus folded: so no sum over clients ever falls.
 * Says whether anything changed.
 */
export async function updateClientSeries(
  database: Database,
  term: Pick<Term, 'ownerEpoch'>,
  limit: number,
): Promise<boolean> {
  if (await areAllShown(database, limit)) return false;
  const isNeeded = ({ show, fold }: SeriesAssignment) => show.length + fold.length > 0;
  if (!isNeeded(assignSeries(await readCandidates(database), limit, Date.now()))) return false;
  await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    await checkOwnerEpoch(trx, term.ownerEpoch);
    const assignment = assignSeries(await readCandidates(trx), limit, Date.now());
    if (isNeeded(assignment)) await apply(trx, assignment);
  });
  return true;
}

/** Then nothing can change, whoever of them is connected; to find that out takes longest. */
async function areAllShown(database: Database, limit: number): Promise<boolean> {
  const { rows } = await sql<{ settled: boolean }>`
    SELECT count(*) <= ${limit} AND coalesce(bool_and(s.shown IS TRUE), true) AS settled
    FROM client_totals LEFT JOIN client_series s USING (client_id)`.execute(database);
  return rows[0]?.settled === true;
}

async function readCandidates(database: Database): Promise<SeriesCandidate[]> {
  const { rows } = await sql<{ client_id: string; shown: boolean | null; connected: boolean; last_seen: Date }>`
    SELECT t.client_id, s.shown, t.last_seen, c.client_id IS NOT NULL AS connected
    FROM client_totals t
    LEFT JOIN client_series s USING (client_id)
    LEFT JOIN (SELECT DISTINCT client_id FROM connections WHERE state = 'open') c USING (client_id)`.execute(database);
  return rows.map(({ client_id, shown, connected, last_seen }) => ({
    clientId: client_id,
    shown,
    connected,
    lastSeenMs: last_seen.getTime(),
  }));
}

async function apply(trx: Database, { show, fold }: SeriesAssignment): Promise<void> {
  // Only those that were counted under `_other` before leave anything there: a new client starts with its whole total.
  const returning = sql`client_id IN (SELECT client_id FROM client_series WHERE NOT shown AND client_id = ANY(${show}::text[]))`;
  await sql`
    UPDATE client_totals SET folded_bytes_sent = bytes_sent, folded_bytes_received = bytes_received,
      folded_packets_sent = packets_sent, folded_packets_received = packets_received WHERE ${returning}`.execute(trx);
  await sql`
    UPDATE client_histograms SET folded_buckets = buckets, folded_sum = sum, folded_count = count
    WHERE ${returning}`.execute(trx);
  await sql`
    INSERT INTO client_series (client_id, shown)
    SELECT client_id, true FROM unnest(${show}::text[]) AS ids (client_id)
    UNION ALL SELECT client_id, false FROM unnest(${fold}::text[]) AS ids (client_id)
    ON CONFLICT (client_id) DO UPDATE SET shown = excluded.shown, since = now()`.execute(trx);
}
