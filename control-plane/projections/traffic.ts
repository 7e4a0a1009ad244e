import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { ConnectionOutcome } from './connection-state.ts';
import type { TrafficMemory } from './traffic-memory.ts';
import type { SummedRow } from './traffic-sums.ts';

interface TrafficRow extends SummedRow {
  /** Milliseconds since 1970, as `endMs`. */
  readonly startMs: number;
  readonly endMs: number;
  readonly rttMs: number | null;
  readonly lossPercent: number | null;
}

const COLUMNS: Readonly<Record<string, Column<TrafficRow>>> = {
  position: { type: 'bigint', value: (row) => row.position },
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  kind: { type: 'text', value: (row) => row.kind },
  window_start: { type: 'timestamptz', value: (row) => row.startMs },
  window_end: { type: 'timestamptz', value: (row) => row.endMs },
  bytes_in: { type: 'bigint', value: (row) => row.bytesIn },
  bytes_out: { type: 'bigint', value: (row) => row.bytesOut },
  packets_in: { type: 'bigint', value: (row) => row.packetsIn },
  packets_out: { type: 'bigint', value: (row) => row.packetsOut },
  rtt_ms: { type: 'double precision', value: (row) => row.rttMs },
  latency_p50_ms: { type: 'double precision', value: ({ latencyMs }) => latencyMs?.[0] },
  latency_p95_ms: { type: 'double precision', value: ({ latencyMs }) => latencyMs?.[1] },
  latency_p99_ms: { type: 'double precision', value: ({ latencyMs }) => latencyMs?.[2] },
  loss_percent: { type: 'double precision', value: (row) => row.lossPercent },
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
      const { windowStart, windowEnd, samples } = event.data;
      const startMs = Date.parse(windowStart);
      const endMs = Date.parse(windowEnd);
      const first = outcomes.length - samples.connectionId.length;
      for (let i = 0; first + i < outcomes.length; i++) {
        const { connection, counted } = outcomes[first + i]!;
        const { connectionId, clientId, closeTotals } = connection;
        const { bytesIn, bytesOut, packetsIn, packetsOut } = counted;
        const kind = closeTotals === null ? 'window' : 'late';
        const latencyMs = samples.latencyMs[i]!;
        const rttMs = samples.rttMs[i]!;
        const lossPercent = samples.lossPercent[i]!;
        const row = { position, connectionId, clientId, node, kind, windowEnd, startMs, endMs } as const;
        this.rows.push({ ...row, bytesIn, bytesOut, packetsIn, packetsOut, rttMs, latencyMs, lossPercent });
      }
    }
    if (event.type === 'connection.closed') {
      const { connectionId, clientId } = event.data;
      const outcome = outcomes.findLast(({ connection }) => connection.connectionId === connectionId);
      const at = Date.parse(event.at);
      if (outcome && movedAnything(outcome)) {
        const row = { position, connectionId, clientId, node, kind: 'close', windowEnd: event.at } as const;
        const nothing = { rttMs: null, latencyMs: null, lossPercent: null };
        this.rows.push({ ...row, startMs: at, endMs: at, ...outcome.counted, ...nothing });
      }
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const last = this.rows.at(-1)?.position;
    if (last === undefined) return;
    await this.memory.ensurePartitions(trx, last);
    const inserted = insertRows(trx, 'traffic', COLUMNS, this.rows);
    try {
      this.memory.sums.add(this.rows);
    } finally {
      await inserted;
    }
  }
}

function movedAnything({ counted }: ConnectionOutcome): boolean {
  return counted.bytesIn + counted.bytesOut + counted.packetsIn + counted.packetsOut > 0;
}
