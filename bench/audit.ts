import { measureAudit } from './audit/measure.ts';
import { AUDIT_HELP, parseAuditOptions } from './audit/options.ts';
import { renderAudit } from './audit/report.ts';
import { runBenchmark } from './run-benchmark.ts';

await runBenchmark({
  name: 'bench:audit',
  help: AUDIT_HELP,
  parse: parseAuditOptions,
  measure: measureAudit,
  render: renderAudit,
});
