import { describeDifference } from '../verify/difference.ts';
import { verifyProjections } from '../verify/verify-projections.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { count } from './progress-line.ts';

export async function verifyCommand(
  { limit }: { readonly limit: number },
  { database, onProgress, signal }: CommandContext,
): Promise<CommandResult> {
  const report = await verifyProjections(database, { limit, onProgress, signal });
  const lines: string[] = [];
  for (const found of report.findings) {
    lines.push(...found.differences.map(describeDifference));
    const more = found.count - found.differences.length;
    if (more > 0) lines.push(`${found.name}: ${count(more)} more`);
  }
  const scope = `${report.findings.length} tables and checks as of position ${report.position}`;
  const source = `${count(report.events)} events projected anew`;
  lines.push(
    report.differences === 0
      ? `no difference: ${scope}, ${source}`
      : `${count(report.differences)} differences: ${scope}, ${source}`,
  );
  return { ok: report.differences === 0, text: lines.join('\n'), json: { ...report } };
}
