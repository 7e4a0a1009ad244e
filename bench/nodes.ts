import { CLUSTER_PROGRAMS } from '../deploy/local/prerequisites.ts';
import { measureNodes } from './nodes/measure.ts';
import { NODES_HELP, parseNodesOptions } from './nodes/options.ts';
import { renderNodes } from './nodes/report.ts';
import { runBenchmark } from './run-benchmark.ts';

await runBenchmark({
  name: 'bench:nodes',
  help: NODES_HELP,
  parse: parseNodesOptions,
  programs: () => CLUSTER_PROGRAMS,
  measure: measureNodes,
  render: renderNodes,
  keepsLogs: true,
});
