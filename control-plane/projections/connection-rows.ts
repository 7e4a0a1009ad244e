import { type RawBuilder, sql } from 'kysely';
import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite, unnestOf } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import type { Connection } from './connection-state.ts';
import { addTraffic, NO_TRAFFIC } from './traffic-totals.ts';
import { isUnfolded, readTrafficFold } from './unfolded-traffic.ts';

const closed = ({ status }: Connection) => (status.state === 'closed' ? status : undefined);
/** All but what `foldTraffic` writes. */
const COLUMNS: Readonly<Record<string, Column<Connection>>> = {
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  incarnation: { type: 'text', value: (row) => row.incarnation },
  state: { type: 'text', value: (row) => row.status.state },
  reason: { type: 'text', value: ({ status }) => (status.state === 'open' ? null : status.reason) },
  detail: { type: 'text', value: (row) => closed(row)?.detail ?? null },
  remote_address: { type: 'inet', value: (row) => row.established?.details.remoteAddress ?? null },
  remote_port: { type: 'integer', value: (row) => row.established?.details.remotePort ?? null },
  transport: { type: 'text', value: (row) => row.established?.details.transport ?? null },
  tunnel_mtu: { type: 'integer', value: (row) => row.established?.details.tunnelMtu ?? null },
  established_at: { type: 'timestamptz', value: (row) => row.established?.at ?? null },
  presumed_at: { type: 'timestamptz', value: (row) => row.presumedAt },
  closed_at: { type: 'timestamptz', value: (row) => closed(row)?.closedAt ?? null },
  duration_ms: { type: 'double precision', value: (row) => closed(row)?.durationMs ?? null },
  close_bytes_in: { type: 'bigint', value: (row) => row.closeTotals?.bytesIn ?? null },
  close_bytes_out: { type: 'bigint', value: (row) => row.closeTotals?.bytesOut ?? null },
  close_packets_in: { type: 'bigint', value: (row) => row.closeTotals?.packetsIn ?? null },
  close_packets_out: { type: 'bigint', value: (row) => row.closeTotals?.packetsOut ?? null },
};

const LATE_COLUMNS: Readonly<Record<string, Column<readonly [string, TrafficTotals]>>> = {
  connection_id: { type: 'uuid', value: ([id]) => id },
  bytes_in: { type: 'bigint', value: ([, traffic]) => traffic.bytesIn },
  bytes_out: { type: 'bigint', value: ([, traffic]) => traffic.bytesOut },
  packets_in: { type: 'bigint', value: ([, traffic]) => traffic.packetsIn },
  packets_out: { type: 'bigint', value: ([, traffic]) => traffic.packetsOut },
};

export async function writeConnections(trx: DatabaseTransaction, rows: readonly Connection[]): Promise<void> {
  await insertRows(trx, 'connections', COLUMNS, rows, overwrite(['connection_id'], COLUMNS));
}

/** Rows that a condition names, with all windows in `sampled`, also those that are not folded in yet. */
export async function loadConnections(trx: DatabaseTransaction, condition: RawBuilder<boolean>): Promise<Connection[]> {
  const rows = await trx.selectFrom('connections').selectAll().where(condition).execute();
  if (rows.length === 0) return [];
  const unfolded = await trx
    .selectFrom('traffic')
    .select('connection_id')
    .select(({ fn }) => [
      fn.sum<string>('bytes_in').as('bytes_in'),
      fn.sum<string>('bytes_out').as('bytes_out'),
      fn.sum<string>('packets_in').as('packets_in'),
      fn.sum<string>('packets_out').as('packets_out'),
    ])
    .where(isUnfolded(await readTrafficFold(trx)))
    .where('kind', '=', 'window')
    .where('connection_id', '=', sql<string>`any(${rows.map((row) => row.connection_id)}::uuid[])`)
    .groupBy('connection_id')
    .execute();
  const tails = new Map(
    unfolded.map((row) => [
      row.connection_id,
      {
        bytesIn: Number(row.bytes_in),
        bytesOut: Number(row.bytes_out),
        packetsIn: Number(row.packets_in),
        packetsOut: Number(row.packets_out),
      },
    ]),
  );
  return rows.map((row) => fromRow(row, tails.get(row.connection_id) ?? NO_TRAFFIC));
}

/**
 * Adds windows that came after the report of the end to the sum of the windows: `traffic` has only what they count beyond
 * that report, so `foldTraffic` cannot.
 */
export async function addLateWindows(
  trx: DatabaseTransaction,
  late: ReadonlyMap<string, TrafficTotals>,
): Promise<void> {
  if (late.size === 0) return;
  const names = Object.keys(LATE_COLUMNS);
  await sql`
    UPDATE connections c SET
      sampled_bytes_in = least(c.sampled_bytes_in + l.bytes_in, ${Number.MAX_SAFE_INTEGER}::bigint),
      sampled_bytes_out = least(c.sampled_bytes_out + l.bytes_out, ${Number.MAX_SAFE_INTEGER}::bigint),
      sampled_packets_in = least(c.sampled_packets_in + l.packets_in, ${Number.MAX_SAFE_INTEGER}::bigint),
      sampled_packets_out = least(c.sampled_packets_out + l.packets_out, ${Number.MAX_SAFE_INTEGER}::bigint)
    FROM ${unnestOf(LATE_COLUMNS, [...late])} AS l (${sql.join(names.map((name) => sql.ref(name)))})
    WHERE c.connection_id = l.connection_id`.execute(trx);
}

function fromRow(row: Row<'connections'>, unfolded: TrafficTotals): Connection {
  return {
    connectionId: row.connection_id,
    clientId: row.client_id,
    node: row.node,
    incarnation: row.incarnation,
    status: statusOf(row),
    established:
      row.established_at === null
        ? null
        : {
            at: row.established_at.getTime(),
            details: {
              remoteAddress: row.remote_address!,
              remotePort: row.remote_port!,
              transport: row.transport!,
              tunnelMtu: row.tunnel_mtu!,
            },
          },
    presumedAt: row.presumed_at?.getTime() ?? null,
    sampled: addTraffic(unfolded, {
      bytesIn: row.sampled_bytes_in,
      bytesOut: row.sampled_bytes_out,
      packetsIn: row.sampled_packets_in,
      packetsOut: row.sampled_packets_out,
    }),
    closeTotals:
      row.close_bytes_in === null
        ? null
        : {
            bytesIn: row.close_bytes_in,
            bytesOut: row.close_bytes_out!,
            packetsIn: row.close_packets_in!,
            packetsOut: row.close_packets_out!,
          },
  };
}

function statusOf(row: Row<'connections'>): Connection['status'] {
  switch (row.state) {
    case 'open':
      return { state: 'open' };
    case 'presumed':
      return { state: 'presumed', reason: row.reason! };
    case 'closed':
      return {
        state: 'closed',
        reason: row.reason!,
        detail: row.detail ?? '',
        closedAt: row.closed_at!.getTime(),
        durationMs: row.duration_ms,
      };
    default:
      return row.state satisfies never;
  }
}
