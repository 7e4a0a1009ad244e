import { textTable } from '../../deploy/local/text-table.ts';
import type { ChaosResult } from './run-chaos.ts';

/** What was done, and what held. */
export function renderChaos({ seed, seconds, faults, checks, figures, unexpectedEnds }: ChaosResult): string {
  const failed = checks.filter(({ ok }) => !ok);
  return [
    `chaos of ${seconds} s, seed ${seed}`,
    textTable(faults),
    textTable([figures]),
    ...unexpectedEnds.map(
      ({ process, status, lastLogLines }) =>
        `${process} ended by itself (${status}), and was started again; its last lines:\n${lastLogLines}`,
    ),
    textTable(checks.map(({ name, ok }) => ({ check: name, verdict: ok ? 'ok' : 'FAILED' }))),
    ...failed.map(
      ({ name, expected, actual }) =>
        `FAILED with seed ${seed}, ${seconds} s: ${name}\n    expected ${JSON.stringify(expected)}\n    actual   ${JSON.stringify(actual)}`,
    ),
  ].join('\n\n');
}
