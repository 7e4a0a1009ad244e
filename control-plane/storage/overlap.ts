import { setImmediate } from 'node:timers/promises';
import { errorCode } from '../../shared/errors.ts';

/** Postgres: an earlier statement of the transaction has failed, so that this one was not looked at. */
const IN_FAILED_TRANSACTION = '25P02';

/**
 * Runs statements of one transaction in their order: while Postgres works on one, the next is put together, and whatever else
 * the iterator does goes on. Resolves when all have ended; throws the error that the others follow from.
 */
export async function overlap(statements: Iterable<() => Promise<unknown>>): Promise<void> {
  const running: Promise<void>[] = [];
  const errors: unknown[] = [];
  const note = (error: unknown) => {
    errors.push(error);
  };
  try {
    for (const statement of statements) {
      running.push(statement().then(() => undefined, note));
      // Lets go what is put together.
      await setImmediate();
    }
  } catch (error) {
    note(error);
  }
  await Promise.all(running);
  // Errors of statements that were sent together can be heard of in another order than they came about.
  if (errors.length > 0) throw errors.find((error) => errorCode(error) !== IN_FAILED_TRANSACTION) ?? errors[0];
}
