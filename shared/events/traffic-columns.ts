import Type, { type Static } from 'typebox';
import { ClientId, ConnectionId, Count, Milliseconds, nullable, record } from './event-schema.ts';

/** Ours: the most connections that one window tells of. */
export const MAX_SAMPLES_PER_WINDOW = 500;

/** Inner IP packets and their bytes: `In` from the client, `Out` to the client. */
const traffic = { bytesIn: Count, bytesOut: Count, packetsIn: Count, packetsOut: Count };
export const TrafficTotals = record(traffic);
export type TrafficTotals = Static<typeof TrafficTotals>;

/** What one connection did in one window. RTT, latency and loss are null where nothing was measured. */
export interface TrafficSample extends TrafficTotals {
  readonly connectionId: string;
  readonly clientId: string;
  /** Smoothed RTT of the QUIC path, milliseconds. */
  readonly rttMs: number | null;
  /** Percentiles of the echo probes through the tunnel that were answered in the window, milliseconds. */
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
  /** Echo probes of the window that were not answered; null while the client never answered one. */
  readonly lossPercent: number | null;
}

const column = <S extends Type.TSchema>(value: S) => Type.Array(value, { maxItems: MAX_SAMPLES_PER_WINDOW });

const columns = {
  connectionId: column(ConnectionId),
  clientId: column(ClientId),
  bytesIn: column(traffic.bytesIn),
  bytesOut: column(traffic.bytesOut),
  packetsIn: column(traffic.packetsIn),
  packetsOut: column(traffic.packetsOut),
  rttMs: column(nullable(Milliseconds)),
  /** p50, p95 and p99. */
  latencyMs: column(nullable(Type.Tuple([Milliseconds, Milliseconds, Milliseconds]))),
  lossPercent: column(nullable(Type.Number({ minimum: 0, maximum: 100 }))),
};

/**
 * The samples of a window, a column for each of their fields: of the log's bytes most are samples, and names and punctuation were more
 * than half of a sample that has them with it.
 */
export const TrafficColumns = Type.Refine(
  record(columns),
  (value) => Object.values(value).every(({ length }) => length === value.connectionId.length),
  () => 'must have columns of one length',
);
export type TrafficColumns = Static<typeof TrafficColumns>;

export function columnsOf(samples: readonly TrafficSample[]): TrafficColumns {
  return {
    connectionId: samples.map((sample) => sample.connectionId),
    clientId: samples.map((sample) => sample.clientId),
    bytesIn: samples.map((sample) => sample.bytesIn),
    bytesOut: samples.map((sample) => sample.bytesOut),
    packetsIn: samples.map((sample) => sample.packetsIn),
    packetsOut: samples.map((sample) => sample.packetsOut),
    rttMs: samples.map((sample) => sample.rttMs),
    latencyMs: samples.map(({ latencyMs }) => latencyMs && [latencyMs.p50, latencyMs.p95, latencyMs.p99]),
    lossPercent: samples.map((sample) => sample.lossPercent),
  };
}

/** What the sample at an index of the columns moved. */
export function trafficAt({ bytesIn, bytesOut, packetsIn, packetsOut }: TrafficColumns, i: number): TrafficTotals {
  return { bytesIn: bytesIn[i]!, bytesOut: bytesOut[i]!, packetsIn: packetsIn[i]!, packetsOut: packetsOut[i]! };
}

/**
 * Windows of version 1 had a list of samples. Every field becomes a column, also one that may not be there, and one that is missing is
 * undefined in its column: what was wrong stays wrong.
 */
export function withColumns({ connections, ...window }: { readonly connections?: unknown }): object {
  if (!Array.isArray(connections)) return { ...window, samples: connections };
  const found = new Map<string, unknown[]>(Object.keys(columns).map((name) => [name, []]));
  for (const sample of connections) {
    const fields = new Map<string, unknown>(Object.entries(Object(sample)));
    for (const name of fields.keys()) if (!found.has(name)) found.set(name, []);
    for (const [name, values] of found) {
      const value = fields.get(name);
      values.push(name === 'latencyMs' ? percentilesOf(value) : value);
    }
  }
  return { ...window, samples: Object.fromEntries(found) };
}

function percentilesOf(latency: unknown): unknown {
  const { p50, p95, p99, ...unknown } = Object(latency);
  const isLatency = p50 !== undefined && p95 !== undefined && p99 !== undefined && Object.keys(unknown).length === 0;
  return isLatency ? [p50, p95, p99] : latency;
}
