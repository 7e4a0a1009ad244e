import { type Difference, describeDifference } from '../verify/difference.ts';
import { verifyProjections } from '../verify/verify-projections.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { count } from './progress-line.ts';

/** Prints differences as they are found; what is to be JSON has to be kept until the end. */
export async function verifyCommand(
  { limit, json: isKept }: { readonly limit: number | undefined; readonly json: boolean },
  { database, onProgress, print, signal }: CommandContext,
): Promise<CommandResult> {
  const kept: Difference[] = [];
  const onDifference = (difference: Difference) => {
    signal.throwIfAborted();
    print(describeDifference(difference));
    if (isKept) kept.push(difference);
  };
  const report = await verifyProjections(database, { limit, onDifference, onProgress, signal });
  const lines = report.findings.flatMap((found) => {
    const more = found.count - (limit ?? found.count);
    return more > 0 ? [`${found.name}: ${count(more)} more`] : [];
  });
  const scope = `${report.findings.length} tables and checks as of position ${report.position}`;
  const source = `${count(report.events)} events projected anew`;
  lines.push(
    report.differences === 0
      ? `no difference: ${scope}, ${source}`
      : `${count(report.differences)} differences: ${scope}, ${source}`,
  );
  const told = Object.groupBy(kept, (difference) => (difference.type === 'row' ? difference.table : difference.check));
  const findings = report.findings.map((found) => ({ ...found, differences: told[found.name] ?? [] }));
  return { ok: report.differences === 0, text: lines.join('\n'), json: { ...report, findings } };
}
