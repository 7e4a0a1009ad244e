import { type RawBuilder, sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { Row } from '../storage/tables.ts';

/** Parts into which the clients are divided, so that each of many folds is short. The number never changes. */
export const FOLD_SLICES = 64;

/** How far traffic is folded: see the comments of `traffic_fold`. */
export type TrafficFold = Pick<Row<'traffic_fold'>, 'position' | 'round_end' | 'slices'>;

export async function readTrafficFold(trx: DatabaseTransaction): Promise<TrafficFold> {
  return await trx.selectFrom('traffic_fold').select(['position', 'round_end', 'slices']).executeTakeFirstOrThrow();
}

/** When nothing up to `position` is left, and no round has begun. */
export function foldedThrough(position: number): TrafficFold {
  return { position, round_end: null, slices: 0 };
}

/** In SQL: the part that a row of `traffic` belongs to. */
export const foldSlice = sql<number>`(hashtext(client_id) & ${sql.lit(FOLD_SLICES - 1)})`;

/** The slice of each of these clients. */
export async function readFoldSlices(
  trx: DatabaseTransaction,
  clientIds: readonly string[],
): Promise<Map<string, number>> {
  const { rows } = await sql<{ client_id: string; slice: number }>`
    SELECT client_id, ${foldSlice} AS slice FROM unnest(${clientIds}::text[]) AS client_id`.execute(trx);
  return new Map(rows.map(({ client_id, slice }) => [client_id, slice]));
}

/** Position of the newest row of `traffic` behind `position`; that itself where there is none. */
export async function newestTraffic(trx: DatabaseTransaction, position: number): Promise<number> {
  const { newest } = await trx
    .selectFrom('traffic')
    .select(({ fn }) => fn.max<number | null>('position').as('newest'))
    .where('position', '>', position)
    .executeTakeFirstOrThrow();
  return newest ?? position;
}

/** A condition for rows of `traffic` that are not folded yet, or of those only the ones up to position `through`. */
export function isUnfolded(
  { position, round_end: roundEnd, slices }: TrafficFold,
  through?: number,
): RawBuilder<boolean> {
  const limit = through === undefined ? sql`` : sql` AND position <= ${through}::bigint`;
  const isBehind = sql<boolean>`position > ${position}::bigint${limit}`;
  if (slices === 0) return isBehind;
  return sql<boolean>`${isBehind} AND (position > ${roundEnd}::bigint OR ${foldSlice} >= ${slices}::integer)`;
}
