import { sql } from 'kysely';
import type { VpnEvent } from '../../shared/events/envelope.ts';
import { canonicalPrefix } from '../../shared/ip/prefix.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, timestamp } from '../storage/insert-rows.ts';
import type { BlockGrantsTable } from '../storage/tables.ts';
import { clampEnd, distanceTo, formatRange, MAX_CLOCK_SKEW_MS } from './time-range.ts';

/** One node's hold on one block. Times are milliseconds since 1970; `until` null while it is held. */
export interface BlockGrant {
  /** Null until it is stored. */
  readonly id: number | null;
  readonly block: string;
  readonly pool: string;
  readonly node: string;
  readonly from: number;
  readonly until: number | null;
  readonly leaseEnd: number;
  readonly endReason: BlockGrantsTable['end_reason'];
  readonly grantedPosition: number;
  readonly endedPosition: number | null;
}

/** The grant after one more event of its block; undefined where the event fits no grant. */
export function evolveGrant(before: BlockGrant | undefined, { position, event }: LogEntry): BlockGrant | undefined {
  const at = Date.parse(event.at);
  switch (event.type) {
    case 'block.granted': {
      const { block, pool, node, leaseEnd: end } = event.data;
      const leaseEnd = Date.parse(end);
      const open = { until: null, endReason: null, grantedPosition: position, endedPosition: null };
      return { id: null, block, pool, node, from: at, leaseEnd, ...open };
    }
    case 'block.renewed':
      return before && { ...before, leaseEnd: Date.parse(event.data.leaseEnd) };
    case 'block.returned':
      return before && endGrant(before, at, 'returned', position);
    case 'block.reclaimed': {
      const leaseEnd = Date.parse(event.data.leaseEnd);
      return before && endGrant({ ...before, leaseEnd }, leaseEnd, 'reclaimed', position);
    }
    default:
      return before;
  }
}

function endGrant(grant: BlockGrant, at: number, endReason: BlockGrant['endReason'], position: number): BlockGrant {
  return { ...grant, until: clampEnd(grant.from, at), endReason, endedPosition: position };
}

export type BlockEvent = VpnEvent<'block.granted' | 'block.renewed' | 'block.returned' | 'block.reclaimed'>;

function isBlockEvent(event: VpnEvent): event is BlockEvent {
  return event.type.startsWith('block.');
}

const COLUMNS: Readonly<Record<string, Column<BlockGrant>>> = {
  block: { type: 'cidr', value: (row) => row.block },
  pool: { type: 'cidr', value: (row) => row.pool },
  node: { type: 'text', value: (row) => row.node },
  during: { type: 'tstzrange', value: (row) => row },
  lease_end: { type: 'timestamptz', value: (row) => row.leaseEnd },
  end_reason: { type: 'text', value: (row) => row.endReason },
  granted_position: { type: 'bigint', value: (row) => row.grantedPosition },
  ended_position: { type: 'bigint', value: (row) => row.endedPosition },
};

/** Projects which node holds which block. Takes the four block events. */
export class BlockGrantsProjection {
  /** By block, oldest first. */
  private readonly grants = new Map<string, BlockGrant[]>();
  private readonly dirty = new Set<BlockGrant>();

  static async load(trx: DatabaseTransaction, entries: readonly LogEntry[]): Promise<BlockGrantsProjection> {
    const blocks = new Set<string>();
    let earliest = Number.POSITIVE_INFINITY;
    for (const { event } of entries) {
      if (!('block' in event.data)) continue;
      blocks.add(event.data.block);
      earliest = Math.min(earliest, Date.parse(event.at));
    }
    const projection = new BlockGrantsProjection();
    if (blocks.size === 0) return projection;
    const rows = await trx
      .selectFrom('block_grants')
      .selectAll()
      .select([sql<Date>`lower(during)`.as('from'), sql<Date | null>`upper(during)`.as('until')])
      .where('block', '=', sql<string>`any(${[...blocks]}::cidr[])`)
      .where(sql<boolean>`during && tstzrange(${timestamp(earliest - MAX_CLOCK_SKEW_MS)}, NULL)`)
      .orderBy('granted_position')
      .execute();
    for (const row of rows) {
      projection.list(canonicalPrefix(row.block)).push({
        id: row.id,
        block: row.block,
        pool: row.pool,
        node: row.node,
        from: row.from.getTime(),
        until: row.until?.getTime() ?? null,
        leaseEnd: row.lease_end.getTime(),
        endReason: row.end_reason,
        grantedPosition: row.granted_position,
        endedPosition: row.ended_position,
      });
    }
    return projection;
  }

  apply(entry: LogEntry): void {
    const { event } = entry;
    if (!isBlockEvent(event)) return;
    const list = this.list(event.data.block);
    const open = list.findLastIndex(({ until, node }) => until === null && node === event.data.node);
    const before = event.type === 'block.granted' ? undefined : list[open];
    const after = evolveGrant(before, entry);
    if (after === undefined) return;
    if (before === undefined) list.push(after);
    else list[open] = after;
    this.dirty.delete(before as BlockGrant);
    this.dirty.add(after);
  }

  /**
   * The grant under which a node gave an address of the block at that time by its clock, which may be wrong: the nearest one that was not
   * over long before.
   */
  grantAt(node: string, block: string, at: number): BlockGrant | undefined {
    const isOver = ({ until }: BlockGrant) => until !== null && until <= at - MAX_CLOCK_SKEW_MS;
    const own = this.list(block).filter((grant) => grant.node === node && !isOver(grant));
    return own.toSorted((a, b) => distanceTo(a, at) - distanceTo(b, at))[0];
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const changed = [...this.dirty].filter(({ id }) => id !== null);
    if (changed.length > 0) {
      await sql`
        UPDATE block_grants g
        SET during = c.during::tstzrange, lease_end = c.lease_end, end_reason = c.end_reason,
          ended_position = c.ended_position
        FROM unnest(
          ${changed.map(({ id }) => id)}::bigint[],
          ${changed.map(({ from, until }) => formatRange(from, until))}::text[],
          ${changed.map(({ leaseEnd }) => timestamp(leaseEnd))}::timestamptz[],
          ${changed.map(({ endReason }) => endReason)}::text[],
          ${changed.map(({ endedPosition }) => endedPosition)}::bigint[]
        ) AS c (id, during, lease_end, end_reason, ended_position)
        WHERE g.id = c.id`.execute(trx);
    }
    const created = [...this.dirty].filter(({ id }) => id === null);
    await insertRows(trx, 'block_grants', COLUMNS, created);
  }

  private list(block: string): BlockGrant[] {
    const known = this.grants.get(block);
    if (known) return known;
    const made: BlockGrant[] = [];
    this.grants.set(block, made);
    return made;
  }
}
