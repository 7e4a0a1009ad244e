import type { RawBuilder } from 'kysely';
import type { DatabaseTransaction } from './database.ts';

/**
 * Runs a statement; those behind it in its transaction are sent before it has ended, for which `execute` waits. Resolves when it has
 * ended; the transaction must not end before: `overlap` sees to that.
 */
export async function send(trx: DatabaseTransaction, statement: RawBuilder<unknown>): Promise<void> {
  const query = statement.compile(trx);
  let running: Promise<unknown> | undefined;
  await trx.getExecutor().provideConnection(async (connection) => {
    running = connection.executeQuery(query);
  });
  await running;
}
