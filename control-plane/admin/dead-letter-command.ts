import { onOneLine } from '../../shared/describe-value.ts';
import { type DeadLetterEntry, listDeadLetters, listRetryable } from '../dead-letters/list-dead-letters.ts';
import { type RetryOutcome, retryDeadLetter } from '../dead-letters/retry-dead-letter.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { count } from './progress-line.ts';

/** Ids read at once (ours). */
const RETRY_BATCH = 500;

export async function deadLetterListCommand(
  { limit }: { readonly limit: number },
  { database }: CommandContext,
): Promise<CommandResult> {
  const { count: all, deadLetters } = await listDeadLetters(database, limit);
  const more = all - deadLetters.length;
  const lines = deadLetters.length === 0 ? ['no dead letters'] : tableOf(deadLetters);
  if (more > 0) lines.push(`${count(more)} more`);
  return { ok: true, text: lines.join('\n'), json: { count: all, deadLetters } };
}

/** Each by itself, in the order of the ids. */
export async function deadLetterRetryCommand(
  { ids }: { readonly ids: readonly number[] | 'all' },
  { database, by, signal }: CommandContext,
): Promise<CommandResult> {
  const outcomes: Array<RetryOutcome & { id: number }> = [];
  const retry = async (some: readonly number[]) => {
    for (const id of some) {
      signal.throwIfAborted();
      outcomes.push({ id, ...(await retryDeadLetter(database, id, by)) });
    }
  };
  if (ids === 'all') {
    let batch = await listRetryable(database, 0, RETRY_BATCH);
    for (let last = batch.at(-1); last !== undefined; last = batch.at(-1)) {
      await retry(batch);
      batch = await listRetryable(database, last, RETRY_BATCH);
    }
  } else {
    await retry(ids);
  }
  const applied = outcomes.filter(({ type }) => type === 'applied').length;
  const lines = [...outcomes.map(describeOutcome), `${applied} of ${outcomes.length} applied`];
  return { ok: applied === outcomes.length, text: lines.join('\n'), json: { applied, outcomes } };
}

function describeOutcome({ id, ...outcome }: RetryOutcome & { id: number }): string {
  switch (outcome.type) {
    case 'applied':
      return `${id}: applied at position ${outcome.position}`;
    case 'failed':
      return `${id}: failed again: ${onOneLine(outcome.error)}`;
    case 'refused':
      return `${id}: ${outcome.why}`;
    default:
      return outcome satisfies never;
  }
}

function tableOf(entries: readonly DeadLetterEntry[]): string[] {
  const rows = entries.map(
    ({ id, node, seq, type, recordedAt, error }) =>
      [String(id), node ?? '-', String(seq ?? '-'), onOneLine(type ?? '-'), recordedAt, onOneLine(error)] as const,
  );
  const titled = [['id', 'node', 'seq', 'type', 'recorded_at', 'error'], ...rows];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...titled.map((row) => row[column]!.length)));
  return titled.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
