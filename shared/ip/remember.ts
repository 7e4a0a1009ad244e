/**
 * The same function with a memory of what it answered lately, for texts that come again and again: at most `limit` of them, then it
 * begins anew. What it throws is not remembered.
 */
export function remember<T>(answer: (text: string) => T, limit: number): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const value = answer(text);
    if (known.size >= limit) known.clear();
    known.set(text, value);
    return value;
  };
}
