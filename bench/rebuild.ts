import { measureRebuild } from './rebuild/measure.ts';
import { parseRebuildOptions, REBUILD_HELP } from './rebuild/options.ts';
import { renderRebuild } from './rebuild/report.ts';
import { runBenchmark } from './run-benchmark.ts';

await runBenchmark({
  name: 'bench:rebuild',
  help: REBUILD_HELP,
  parse: parseRebuildOptions,
  measure: measureRebuild,
  render: renderRebuild,
});
