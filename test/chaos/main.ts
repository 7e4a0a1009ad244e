import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { runBenchmark } from '../../bench/run-benchmark.ts';
import { CLUSTER_PROGRAMS } from '../../deploy/local/prerequisites.ts';
import { ChaosCluster } from './chaos-cluster.ts';
import { renderChaos } from './chaos-report.ts';
import { CHAOS_HELP, type ChaosCommand, parseChaosCommand } from './options.ts';
import { type ChaosResult, runChaos } from './run-chaos.ts';

const SEEDS = 2 ** 32;

await runBenchmark<ChaosCommand, ChaosResult & { readonly bars: readonly [] }>({
  name: 'chaos',
  help: CHAOS_HELP,
  parse: (args) => parseChaosCommand(args, () => randomInt(SEEDS)),
  programs: () => CLUSTER_PROGRAMS,
  render: renderChaos,
  keepsLogs: true,
  async measure(command, { directory, signal, progress, atEnd }) {
    progress(`seed ${command.seed}`);
    const chaos = await ChaosCluster.start({ directory: join(directory, 'cluster'), progress, signal });
    atEnd(() => chaos.stop());
    const result = await runChaos(chaos, { ...command, progress, signal });
    return { ...result, bars: [] };
  },
});
