import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';
import { OTHER_CLIENTS } from './contract.ts';
import type { ClientSample, HistogramSample, LatencyQuantile } from './render-cluster.ts';

export type ClientTotalsSample = Pick<
  ClientSample,
  'clientId' | 'bytesSent' | 'bytesReceived' | 'packetsSent' | 'packetsReceived' | 'latency' | 'duration'
>;

interface TotalsRow {
  readonly client_id: string;
  readonly bytes_sent: string;
  readonly bytes_received: string;
  readonly packets_sent: string;
  readonly packets_received: string;
}

interface HistogramRow {
  readonly client_id: string;
  readonly quantile: '' | LatencyQuantile;
  readonly buckets: number[];
  readonly sum: number;
}

/** Totals and histograms of every client with series of its own, and of all others together as `_other`. */
export async function readClientTotals(trx: Database): Promise<ClientTotalsSample[]> {
  const { rows: own } = await sql<TotalsRow>`
    SELECT t.client_id,
      (t.bytes_sent - t.folded_bytes_sent)::text AS bytes_sent,
      (t.bytes_received - t.folded_bytes_received)::text AS bytes_received,
      (t.packets_sent - t.folded_packets_sent)::text AS packets_sent,
      (t.packets_received - t.folded_packets_received)::text AS packets_received
    FROM client_totals t JOIN client_series s USING (client_id) WHERE s.shown ORDER BY t.client_id`.execute(trx);
  const { rows: other } = await sql<TotalsRow>`
    SELECT ${OTHER_CLIENTS}::text AS client_id,
      sum(CASE WHEN s.shown THEN t.folded_bytes_sent ELSE t.bytes_sent END)::text AS bytes_sent,
      sum(CASE WHEN s.shown THEN t.folded_bytes_received ELSE t.bytes_received END)::text AS bytes_received,
      sum(CASE WHEN s.shown THEN t.folded_packets_sent ELSE t.packets_sent END)::text AS packets_sent,
      sum(CASE WHEN s.shown THEN t.folded_packets_received ELSE t.packets_received END)::text AS packets_received
    FROM client_totals t JOIN client_series s USING (client_id)
    HAVING bool_or(NOT s.shown OR t.folded_packets_sent > 0 OR t.folded_packets_received > 0)
      OR EXISTS (SELECT FROM client_histograms WHERE folded_buckets IS NOT NULL)`.execute(trx);
  const histograms = groupByClient([...(await readOwnHistograms(trx)), ...(await readOtherHistograms(trx))]);
  return [...own, ...other].map((row) => ({
    clientId: row.client_id,
    bytesSent: row.bytes_sent,
    bytesReceived: row.bytes_received,
    packetsSent: row.packets_sent,
    packetsReceived: row.packets_received,
    ...(histograms.get(row.client_id) ?? { latency: {}, duration: null }),
  }));
}

async function readOwnHistograms(trx: Database): Promise<HistogramRow[]> {
  const { rows } = await sql<HistogramRow & { folded_buckets: number[] | null }>`
    SELECT h.client_id, h.quantile, h.buckets, h.folded_buckets, (h.sum - h.folded_sum)::double precision AS sum
    FROM client_histograms h JOIN client_series s USING (client_id) WHERE s.shown`.execute(trx);
  return rows.map((row) => {
    const { folded_buckets: folded } = row;
    return folded === null ? row : { ...row, buckets: row.buckets.map((count, i) => count - (folded[i] ?? 0)) };
  });
}

async function readOtherHistograms(trx: Database): Promise<HistogramRow[]> {
  const { rows } = await sql<HistogramRow>`
    WITH parts AS (
      SELECT h.family, h.quantile,
        CASE WHEN s.shown THEN h.folded_buckets ELSE h.buckets END AS buckets,
        CASE WHEN s.shown THEN h.folded_sum ELSE h.sum END AS sum
      FROM client_histograms h JOIN client_series s USING (client_id)
      WHERE NOT s.shown OR h.folded_buckets IS NOT NULL
    ), counts AS (
      SELECT family, quantile, place, sum(observations)::bigint AS observations
      FROM parts, unnest(buckets) WITH ORDINALITY AS bucket (observations, place) GROUP BY family, quantile, place
    )
    SELECT ${OTHER_CLIENTS}::text AS client_id, quantile, array_agg(observations ORDER BY place) AS buckets,
      (SELECT sum(sum)::double precision FROM parts p WHERE p.family = c.family AND p.quantile = c.quantile) AS sum
    FROM counts c GROUP BY family, quantile`.execute(trx);
  return rows;
}

type Histograms = Pick<ClientSample, 'latency' | 'duration'>;

function groupByClient(rows: readonly HistogramRow[]): Map<string, Histograms> {
  const byClient = new Map<
    string,
    { latency: Partial<Record<LatencyQuantile, HistogramSample>>; duration: HistogramSample | null }
  >();
  for (const { client_id, quantile, buckets, sum } of rows) {
    let histograms = byClient.get(client_id);
    if (!histograms) {
      histograms = { latency: {}, duration: null };
      byClient.set(client_id, histograms);
    }
    const sample = { counts: buckets, sum };
    if (quantile === '') histograms.duration = sample;
    else histograms.latency[quantile] = sample;
  }
  return byClient;
}
