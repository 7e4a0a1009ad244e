import Type from 'typebox';

/** Entries of a list where nobody says how many (ours). */
const DEFAULT_LIMIT = 100;

/** How many entries of a list are asked for, in a query. */
export const PageLimit = Type.Optional(
  Type.String({ pattern: '^[1-9][0-9]{0,3}$', description: 'a whole number from 1 to 9999' }),
);

export function parseLimit(limit: string | undefined): number {
  return limit === undefined ? DEFAULT_LIMIT : Number(limit);
}

/** A page of what was found, of which one more than `limit` was asked for. `next` is for the query's `after`, null at the end. */
export function pageOf<Entry extends { readonly id: string }>(
  found: readonly Entry[],
  limit: number,
): { readonly page: readonly Entry[]; readonly next: string | null } {
  const page = found.slice(0, limit);
  return { page, next: found.length > limit ? (page.at(-1)?.id ?? null) : null };
}
