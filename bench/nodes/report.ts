import { textTable } from '../../deploy/local/text-table.ts';
import { areMet, type JudgedBar, judgeBar } from '../bar.ts';

export interface NodesFigures {
  readonly nodes: number;
  readonly connections: number;
  readonly windowMs: number;
  /** From the first start until all connections were open. */
  readonly setupSeconds: number;
  readonly seconds: number;
  /** Committed while they were watched: events, and records, of which a window has one for each connection. */
  readonly events: number;
  readonly records: number;
  /** The longest that any node waited for its watermark to move, while it had something to be committed. */
  readonly slowestWatermarkMs: number;
  /** The most events that all spools together held. */
  readonly deepestSpools: number;
  /** Nodes that are up at the end, and nodes that were declared lost. */
  readonly up: number;
  readonly lost: number;
  /** Blocks that were taken back or whose lease has ended, and renewals while they were watched. */
  readonly lostBlocks: number;
  readonly renewals: number;
  /** The longest time since any node was last heard, by Postgres, at the end. */
  readonly oldestPresenceSeconds: number;
  readonly leaderBytes: number;
  readonly leaderCpuSeconds: number;
  readonly nodesCpuSeconds: number;
  /** The slowest scrape of the cluster's metrics. */
  readonly slowestScrapeMs: number;
  /** Events that could not be applied, never come, or wait for others. */
  readonly unapplied: number;
}

export interface NodesReport extends NodesFigures {
  readonly ok: boolean;
  readonly benchmark: 'nodes';
  readonly bars: readonly JudgedBar[];
}

/** Ours: two windows. */
const MAX_WATERMARK_SECONDS = 10;
/** A node that is silent for longer is lost. */
const MAX_PRESENCE_SECONDS = 10;
const MAX_LEADER_MEGABYTES = 500;

export function reportNodes(figures: NodesFigures): NodesReport {
  const none = (name: string, actual: number) => judgeBar({ name, limit: { below: 1 }, actual, unit: '' });
  const bars = [
    judgeBar({ name: 'nodes that are up', limit: { atLeast: figures.nodes }, actual: figures.up, unit: '' }),
    none('nodes declared lost', figures.lost),
    judgeBar({
      name: 'oldest presence',
      limit: { below: MAX_PRESENCE_SECONDS },
      actual: figures.oldestPresenceSeconds,
      unit: 's',
    }),
    judgeBar({
      name: 'slowest watermark',
      limit: { below: MAX_WATERMARK_SECONDS },
      actual: figures.slowestWatermarkMs / 1_000,
      unit: 's',
    }),
    none('blocks lost', figures.lostBlocks),
    none('events that are not applied', figures.unapplied),
    judgeBar({
      name: 'memory of the leader',
      limit: { below: MAX_LEADER_MEGABYTES },
      actual: figures.leaderBytes / 1e6,
      unit: 'MB',
    }),
  ];
  return { ok: areMet(bars), benchmark: 'nodes', ...figures, bars };
}

export function renderNodes(report: NodesReport): string {
  const { nodes, connections, windowMs, seconds } = report;
  const perSecond = (count: number) => Math.round(count / seconds);
  const rows = [
    { figure: 'until all connections were open', value: report.setupSeconds, unit: 's' },
    { figure: 'events committed', value: perSecond(report.events), unit: 'a second' },
    { figure: 'records committed', value: perSecond(report.records), unit: 'a second' },
    { figure: 'most events in all spools', value: report.deepestSpools, unit: '' },
    { figure: 'renewals of blocks', value: perSecond(report.renewals), unit: 'a second' },
    { figure: 'CPU of the leader', value: (100 * report.leaderCpuSeconds) / seconds, unit: '% of a core' },
    { figure: 'CPU of the nodes', value: (100 * report.nodesCpuSeconds) / seconds, unit: '% of a core' },
    { figure: 'slowest scrape', value: report.slowestScrapeMs, unit: 'ms' },
  ];
  return [
    `${nodes} nodes with ${connections} connections each, windows every ${windowMs / 1_000} s, watched for ${seconds} s`,
    textTable(rows),
    'bars',
    textTable(report.bars),
  ].join('\n\n');
}
