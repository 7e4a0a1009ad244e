import type { TrafficColumns } from '../../shared/events/traffic-columns.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import type { ConnectionOutcome } from './connection-state.ts';
import type { TrafficMemory } from './traffic-memory.ts';
import type { SummedRow } from './traffic-sums.ts';

/** What the rows of one event have in common. */
interface Window {
  readonly position: number;
  readonly node: string;
  /** As the event has it. */
  readonly end: string;
  /** Milliseconds since 1970. */
  readonly startMs: number;
  readonly endMs: number;
  readonly samples: TrafficColumns | undefined;
}

interface TrafficRow {
  readonly window: Window;
  readonly outcome: ConnectionOutcome;
  readonly kind: Row<'traffic'>['kind'];
  /** Of the samples of its window. */
  readonly index: number;
}

const COLUMNS: Readonly<Record<string, Column<TrafficRow>>> = {
  position: { type: 'bigint', value: ({ window }) => window.position },
  connection_id: { type: 'uuid', value: (row) => row.outcome.connection.connectionId },
  client_id: { type: 'text', value: (row) => row.outcome.connection.clientId },
  node: { type: 'text', value: ({ window }) => window.node },
  kind: { type: 'text', value: (row) => row.kind },
  window_start: { type: 'timestamptz', value: ({ window }) => window.startMs },
  window_end: { type: 'timestamptz', value: ({ window }) => window.endMs },
  bytes_in: { type: 'bigint', value: (row) => row.outcome.counted.bytesIn },
  bytes_out: { type: 'bigint', value: (row) => row.outcome.counted.bytesOut },
  packets_in: { type: 'bigint', value: (row) => row.outcome.counted.packetsIn },
  packets_out: { type: 'bigint', value: (row) => row.outcome.counted.packetsOut },
  rtt_ms: { type: 'double precision', value: (row) => row.window.samples?.rttMs[row.index] ?? null },
  latency_p50_ms: { type: 'double precision', value: (row) => row.window.samples?.latencyMs[row.index]?.[0] ?? null },
  latency_p95_ms: { type: 'double precision', value: (row) => row.window.samples?.latencyMs[row.index]?.[1] ?? null },
  latency_p99_ms: { type: 'double precision', value: (row) => row.window.samples?.latencyMs[row.index]?.[2] ?? null },
  loss_percent: { type: 'double precision', value: (row) => row.window.samples?.lossPercent[row.index] ?? null },
};

/** Projects what each connection moved in each window, so that the rows add up to the totals. Takes traffic and ends. */
export class TrafficProjection {
  private readonly rows: TrafficRow[] = [];
  private readonly memory: TrafficMemory;

  constructor(memory: TrafficMemory) {
    this.memory = memory;
  }

  apply({ position, event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    const { node } = event;
    if (event.type === 'traffic.sampled') {
      const { windowStart, windowEnd: end, samples } = event.data;
      const window = { position, node, end, startMs: Date.parse(windowStart), endMs: Date.parse(end), samples };
      const first = outcomes.length - samples.connectionId.length;
      for (let index = 0; first + index < outcomes.length; index++) {
        const outcome = outcomes[first + index]!;
        const kind = outcome.connection.closeTotals === null ? 'window' : 'late';
        this.rows.push({ window, outcome, kind, index });
      }
    }
    if (event.type === 'connection.closed') {
      const outcome = outcomes.findLast(({ connection }) => connection.connectionId === event.data.connectionId);
      const at = Date.parse(event.at);
      if (outcome && movedAnything(outcome)) {
        const window = { position, node, end: event.at, startMs: at, endMs: at, samples: undefined };
        this.rows.push({ window, outcome, kind: 'close', index: 0 });
      }
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const last = this.rows.at(-1)?.window.position;
    if (last === undefined) return;
    await this.memory.ensurePartitions(trx, last);
    const inserted = insertRows(trx, 'traffic', COLUMNS, this.rows);
    this.memory.sums.add(summed(this.rows));
    await inserted;
  }
}

function* summed(rows: readonly TrafficRow[]): Generator<SummedRow> {
  for (const { window, outcome, kind, index } of rows) {
    const { position, node, end, samples } = window;
    const { connectionId, clientId } = outcome.connection;
    const latencyMs = samples?.latencyMs[index] ?? null;
    yield { position, connectionId, clientId, node, kind, windowEnd: end, latencyMs, ...outcome.counted };
  }
}

function movedAnything({ counted }: ConnectionOutcome): boolean {
  return counted.bytesIn + counted.bytesOut + counted.packetsIn + counted.packetsOut > 0;
}
