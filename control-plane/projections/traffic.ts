import type { TrafficColumns } from '../../shared/events/traffic-columns.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import type { ConnectionOutcome } from './connections.ts';
import type { TrafficMemory } from './traffic-memory.ts';
import type { SummedRow } from './traffic-sums.ts';

interface TrafficRow {
  readonly position: number;
  readonly node: string;
  readonly outcome: ConnectionOutcome;
  readonly kind: Row<'traffic'>['kind'];
  readonly start: string;
  readonly end: string;
  /** Where in a window the rest of it is. */
  readonly samples: TrafficColumns | undefined;
  readonly index: number;
}

const COLUMNS: Readonly<Record<string, Column<TrafficRow>>> = {
  position: { type: 'bigint', value: (row) => row.position },
  connection_id: { type: 'uuid', value: (row) => row.outcome.connection.connectionId },
  client_id: { type: 'text', value: (row) => row.outcome.connection.clientId },
  node: { type: 'text', value: (row) => row.node },
  kind: { type: 'text', value: (row) => row.kind },
  window_start: { type: 'timestamptz', value: (row) => row.start },
  window_end: { type: 'timestamptz', value: (row) => row.end },
  bytes_in: { type: 'bigint', value: (row) => row.outcome.counted.bytesIn },
  bytes_out: { type: 'bigint', value: (row) => row.outcome.counted.bytesOut },
  packets_in: { type: 'bigint', value: (row) => row.outcome.counted.packetsIn },
  packets_out: { type: 'bigint', value: (row) => row.outcome.counted.packetsOut },
  rtt_ms: { type: 'double precision', value: (row) => row.samples?.rttMs[row.index] ?? null },
  latency_p50_ms: { type: 'double precision', value: (row) => row.samples?.latencyMs[row.index]?.[0] ?? null },
  latency_p95_ms: { type: 'double precision', value: (row) => row.samples?.latencyMs[row.index]?.[1] ?? null },
  latency_p99_ms: { type: 'double precision', value: (row) => row.samples?.latencyMs[row.index]?.[2] ?? null },
  loss_percent: { type: 'double precision', value: (row) => row.samples?.lossPercent[row.index] ?? null },
};

/** Projects what each connection moved in each window, so that the rows add up to the totals. Takes traffic and ends. */
export class TrafficProjection {
  private readonly rows: TrafficRow[] = [];
  private readonly memory: TrafficMemory;

  constructor(memory: TrafficMemory) {
    this.memory = memory;
  }

  apply({ position, event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    if (event.type === 'traffic.sampled') {
      const { windowStart: start, windowEnd: end, samples } = event.data;
      const byId = new Map(outcomes.map((outcome) => [outcome.connection.connectionId, outcome]));
      for (const [index, connectionId] of samples.connectionId.entries()) {
        const outcome = byId.get(connectionId);
        if (!outcome) continue;
        const kind = outcome.connection.closeTotals === null ? 'window' : 'late';
        this.rows.push({ position, node: event.node, outcome, kind, start, end, samples, index });
      }
    }
    if (event.type === 'connection.closed') {
      const outcome = outcomes.findLast(({ connection }) => connection.connectionId === event.data.connectionId);
      const { at, node } = event;
      if (outcome && movedAnything(outcome)) {
        this.rows.push({ position, node, outcome, kind: 'close', start: at, end: at, samples: undefined, index: 0 });
      }
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const last = this.rows.at(-1)?.position;
    if (last === undefined) return;
    await this.memory.ensurePartitions(trx, last);
    const inserted = insertRows(trx, 'traffic', COLUMNS, this.rows);
    this.memory.sums.add(summed(this.rows));
    await inserted;
  }
}

function* summed(rows: readonly TrafficRow[]): Generator<SummedRow> {
  for (const { position, node, outcome, kind, end, samples, index } of rows) {
    const { connectionId, clientId } = outcome.connection;
    const latencyMs = samples?.latencyMs[index] ?? null;
    yield { position, connectionId, clientId, node, kind, windowEnd: end, latencyMs, ...outcome.counted };
  }
}

function movedAnything({ counted }: ConnectionOutcome): boolean {
  return counted.bytesIn + counted.bytesOut + counted.packetsIn + counted.packetsOut > 0;
}
