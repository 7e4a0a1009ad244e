import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';

/** For how long a count is shown before it is made again (ours): it looks at every address that is held. */
const FRESH_MS = 30_000;

export interface UnsoundCounts {
  /** Held though their connections are closed. */
  readonly leaked: number;
  /** Held without a lease of their blocks, or for connections that are not known. */
  readonly orphaned: number;
}

/** How many rows of leaked_addresses are held, and how many orphaned_addresses has. */
export class UnsoundAddresses {
  private readonly database: Database;
  private counted: { readonly at: number; readonly counts: UnsoundCounts } | undefined;

  constructor(database: Database) {
    this.database = database;
  }

  async count(): Promise<UnsoundCounts> {
    const now = performance.now();
    if (this.counted === undefined || now - this.counted.at > FRESH_MS) {
      const { rows } = await sql<UnsoundCounts>`
        SELECT (SELECT count(*) FROM leaked_addresses WHERE held) AS leaked,
          (SELECT count(*) FROM orphaned_addresses) AS orphaned`.execute(this.database);
      this.counted = { at: now, counts: rows[0] ?? { leaked: 0, orphaned: 0 } };
    }
    return this.counted.counts;
  }
}
