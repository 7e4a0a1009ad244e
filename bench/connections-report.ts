import { textTable } from '../deploy/local/text-table.ts';
import { areMet, type JudgedBar, judgeBar } from './bar.ts';

/** What one run measured. Bytes are resident memory, CPU is in seconds. */
export interface ConnectionFigures {
  readonly tunnels: number;
  /** From the first attempt to the last tunnel. */
  readonly setupSeconds: number;
  readonly setupCpu: { readonly node: number; readonly clients: number };
  /** Attempts that a node without free addresses put off. */
  readonly refusals: number;
  readonly nodeBytes: { readonly before: number; readonly after: number };
  readonly clientBytes: number;
  /** Of all tunnels open and idle, their keepalives and the node's probes included. */
  readonly idleSeconds: number;
  readonly idleNodeCpu: number;
  /** The same of the node without any tunnel. */
  readonly emptySeconds: number;
  readonly emptyNodeCpu: number;
  /** Tunnels that were still open at the end. */
  readonly stillOpen: number;
}

export interface ConnectionsReport {
  readonly ok: boolean;
  readonly benchmark: 'connections';
  readonly tunnels: number;
  readonly tunnelsPerSecond: number;
  readonly refusals: number;
  readonly setupCpuMsNode: number;
  readonly setupCpuMsClient: number;
  /** Kilobytes (1000 bytes) by which the node grew, for each tunnel; the bases that it made for them are in it. */
  readonly nodeKbPerTunnel: number;
  /** All that the node takes, for each tunnel. */
  readonly wholeNodeKbPerTunnel: number;
  readonly clientKbPerTunnel: number;
  readonly idleCpuPercent: number;
  readonly emptyCpuPercent: number;
  readonly bars: readonly JudgedBar[];
}

const MIN_TUNNELS_PER_SECOND = 50;
const MAX_NODE_KB = 250;
const MAX_IDLE_CPU_PERCENT = 5;
const DIGITS = 3;

export function reportConnections(figures: ConnectionFigures): ConnectionsReport {
  const { tunnels, nodeBytes, setupCpu } = figures;
  const each = (total: number, unit: number) => total / unit / tunnels;
  const tunnelsPerSecond = tunnels / figures.setupSeconds;
  const nodeKbPerTunnel = each(nodeBytes.after - nodeBytes.before, 1_000);
  const idleCpuPercent = (100 * figures.idleNodeCpu) / figures.idleSeconds;
  const bars = [
    judgeBar({
      name: 'tunnels set up a second',
      limit: { atLeast: MIN_TUNNELS_PER_SECOND },
      actual: tunnelsPerSecond,
      unit: '',
    }),
    judgeBar({
      name: 'memory at the node',
      limit: { below: MAX_NODE_KB },
      actual: nodeKbPerTunnel,
      unit: 'kB a tunnel',
    }),
    judgeBar({
      name: `CPU of the node with ${tunnels} idle tunnels`,
      limit: { below: MAX_IDLE_CPU_PERCENT },
      actual: idleCpuPercent,
      unit: '% of a core',
    }),
    judgeBar({ name: 'tunnels still open', limit: { atLeast: tunnels }, actual: figures.stillOpen, unit: '' }),
  ];
  const round = (value: number) => Number(value.toFixed(DIGITS));
  return {
    ok: areMet(bars),
    benchmark: 'connections',
    tunnels,
    tunnelsPerSecond: round(tunnelsPerSecond),
    refusals: figures.refusals,
    setupCpuMsNode: round(each(setupCpu.node, 1 / 1_000)),
    setupCpuMsClient: round(each(setupCpu.clients, 1 / 1_000)),
    nodeKbPerTunnel: round(nodeKbPerTunnel),
    wholeNodeKbPerTunnel: round(each(nodeBytes.after, 1_000)),
    clientKbPerTunnel: round(each(figures.clientBytes, 1_000)),
    idleCpuPercent: round(idleCpuPercent),
    emptyCpuPercent: round((100 * figures.emptyNodeCpu) / figures.emptySeconds),
    bars,
  };
}

export function renderConnections(report: ConnectionsReport): string {
  const rows = [
    { figure: 'tunnels set up a second', value: report.tunnelsPerSecond, unit: '' },
    { figure: 'attempts put off for want of addresses', value: report.refusals, unit: '' },
    { figure: 'CPU to set up one, node', value: report.setupCpuMsNode, unit: 'ms' },
    { figure: 'CPU to set up one, client', value: report.setupCpuMsClient, unit: 'ms' },
    { figure: 'memory, node, grown', value: report.nodeKbPerTunnel, unit: 'kB a tunnel' },
    { figure: 'memory, node, all of it', value: report.wholeNodeKbPerTunnel, unit: 'kB a tunnel' },
    { figure: 'memory, clients', value: report.clientKbPerTunnel, unit: 'kB a tunnel' },
    { figure: 'CPU of the node, tunnels idle', value: report.idleCpuPercent, unit: '% of a core' },
    { figure: 'CPU of the node, no tunnel', value: report.emptyCpuPercent, unit: '% of a core' },
  ];
  return [`${report.tunnels} tunnels on one node`, textTable(rows), 'bars', textTable(report.bars)].join('\n\n');
}
