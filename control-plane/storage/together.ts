/**
 * The results of statements of one transaction that are under way at once. Throws the first error, which the later ones follow from,
 * but not before all have ended: nothing of the transaction may be sent after its end.
 */
export async function together<T extends readonly unknown[] | []>(
  statements: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  try {
    return await Promise.all(statements);
  } catch (error) {
    await Promise.allSettled(statements);
    throw error;
  }
}
