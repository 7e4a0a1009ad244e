/** What a ping without an answer counts as: the time that ping(8) is told to wait for one (-W). */
export const LOST_PING_MS = 1_000;

/**
 * Round-trip times in milliseconds from the output of ping(8), in order of sending, without the first `warmUp` pings. Lost
 * ones count as LOST_PING_MS, so that a path that drops does not look quick. Throws when there is no summary.
 */
export function parsePing(text: string, warmUp: number): number[] {
  const sent = Number(/^(\d+) packets transmitted/m.exec(text)?.[1] ?? Number.NaN);
  if (Number.isNaN(sent)) throw new Error(`ping printed no summary: ${text.slice(0, 200)}`);
  const answers = new Map<number, number>();
  for (const [, sequence, ms] of text.matchAll(/icmp_seq=(\d+) .*time=([\d.]+) ms/g)) {
    // A duplicate comes later than the first answer.
    if (!answers.has(Number(sequence))) answers.set(Number(sequence), Number(ms));
  }
  const measured = Math.max(0, sent - warmUp);
  return Array.from({ length: measured }, (_, i) => answers.get(warmUp + i + 1) ?? LOST_PING_MS);
}
