import { CLUSTER_PROGRAMS } from '../deploy/local/prerequisites.ts';
import { renderConnections } from './connections-report.ts';
import { measureConnections } from './measure-connections.ts';
import { CONNECTIONS_HELP, parseConnectionsOptions } from './options.ts';
import { runBenchmark } from './run-benchmark.ts';

await runBenchmark({
  name: 'bench:connections',
  help: CONNECTIONS_HELP,
  parse: parseConnectionsOptions,
  programs: () => CLUSTER_PROGRAMS,
  measure: measureConnections,
  render: renderConnections,
});
