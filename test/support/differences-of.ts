import type { Database } from '../../control-plane/storage/database.ts';
import { describeDifference } from '../../control-plane/verify/difference.ts';
import { verifyProjections } from '../../control-plane/verify/verify-projections.ts';

/** What differs between the live tables and the log, and between live tables, one line each; at most `limit` of each table and check. */
export async function differencesOf(database: Database, limit = 10): Promise<string[]> {
  const told: string[] = [];
  await verifyProjections(database, { limit, onDifference: (difference) => told.push(describeDifference(difference)) });
  return told;
}
