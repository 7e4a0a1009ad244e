import { sql } from 'kysely';
import { readFreshPosition, recentWindows } from '../projections/recent-windows.ts';
import type { Database } from '../storage/database.ts';
import type { ClientSample } from './render-cluster.ts';

export type Gauges = Pick<ClientSample, 'rttMs' | 'throughputInMbps' | 'throughputOutMbps' | 'lossPercent'>;

export const NO_GAUGES: Gauges = { rttMs: null, throughputInMbps: null, throughputOutMbps: null, lossPercent: null };

/** Of every client with a fresh window. Of one with several connections: throughput is their sum, RTT and loss are those of the newest window. */
export async function readGauges(database: Database): Promise<Map<string, Gauges>> {
  const { rows } = await database.transaction().execute(async (trx) => {
    const after = await readFreshPosition(trx);
    // Statistics lag behind tables that grow: by them a partition is read whole, each connection looked up by itself, and all that compiled.
    await sql`
      SELECT set_config(name, 'off', true) FROM unnest('{enable_seqscan,enable_nestloop,jit}'::text[]) AS name`.execute(
      trx,
    );
    return await sql<{
      client_id: string;
      rtt: number | null;
      throughput_in: number;
      throughput_out: number;
      loss: number | null;
    }>`
      SELECT g.client_id, sum(g.throughput_in_mbps) AS throughput_in, sum(g.throughput_out_mbps) AS throughput_out,
        (array_agg(g.rtt_ms ORDER BY g.window_end DESC) FILTER (WHERE g.rtt_ms IS NOT NULL))[1] AS rtt,
        (array_agg(g.loss_percent ORDER BY g.window_end DESC) FILTER (WHERE g.loss_percent IS NOT NULL))[1] AS loss
      FROM (${recentWindows(after)}) g JOIN connections c USING (connection_id)
      WHERE c.state = 'open'
      GROUP BY g.client_id`.execute(trx);
  });
  return new Map(
    rows.map((row) => [
      row.client_id,
      {
        rttMs: row.rtt,
        throughputInMbps: row.throughput_in,
        throughputOutMbps: row.throughput_out,
        lossPercent: row.loss,
      },
    ]),
  );
}
