import type pg from 'pg';

const STEP = 500_000;

/** Fills the log up with small events of a node that is no more, `count` of them, as if they had been projected. */
export async function fillEvents(client: pg.Client, count: number, progress: (line: string) => void): Promise<void> {
  await client.query('SET statement_timeout = 0');
  const { rows } = await client.query<{ position: string }>('SELECT position FROM event_checkpoint');
  const base = Number(rows[0]?.position);
  for (let from = 0; from < count; from += STEP) {
    const to = Math.min(count, from + STEP);
    await client.query('BEGIN');
    await client.query('SELECT ensure_event_partitions($1::bigint)', [base + to]);
    await client.query(
      `INSERT INTO events (position, node, epoch, seq, incarnation, type, version, at, data, stream_seq)
       SELECT $1::bigint + n, 'filler', repeat('f', 32), n, repeat('f', 32), 'node.draining', 1,
         timestamptz '2026-01-01' + n * interval '10 ms', '{"reason":"asked to stop"}', NULL
       FROM generate_series($2::bigint, $3::bigint) AS g (n)`,
      [base, from + 1, to],
    );
    await client.query('UPDATE event_checkpoint SET position = $1', [base + to]);
    await client.query('COMMIT');
    if (to % (4 * STEP) === 0) progress(`${to} events are in the log`);
  }
}
