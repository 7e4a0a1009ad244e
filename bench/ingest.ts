import { CLUSTER_PROGRAMS } from '../deploy/local/prerequisites.ts';
import { measureIngest } from './ingest/measure.ts';
import { INGEST_HELP, parseIngestOptions } from './ingest/options.ts';
import { renderIngest } from './ingest/report.ts';
import { runBenchmark } from './run-benchmark.ts';

await runBenchmark({
  name: 'bench:ingest',
  help: INGEST_HELP,
  parse: parseIngestOptions,
  programs: () => CLUSTER_PROGRAMS,
  measure: measureIngest,
  render: renderIngest,
  keepsLogs: true,
});
