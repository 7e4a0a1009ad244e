import { setImmediate } from 'node:timers/promises';

/**
 * Runs statements of one transaction in their order: while Postgres works on one, the next is put together, and whatever else
 * the iterator does goes on. Resolves when all have ended; throws the first error, which the later ones follow from.
 */
export async function overlap(statements: Iterable<() => Promise<unknown>>): Promise<void> {
  const running: Promise<void>[] = [];
  let failure: { readonly error: unknown } | undefined;
  const note = (error: unknown) => {
    failure ??= { error };
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
  if (failure !== undefined) throw failure.error;
}
