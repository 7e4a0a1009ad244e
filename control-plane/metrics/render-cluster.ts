import { CLUSTER_FAMILIES, type MetricFamily } from './contract.ts';

/** Whole numbers beyond 2^53 come as text from Postgres and go out as they are. */
export type SampleValue = number | string;

export interface HistogramSample {
  /** Observations per bucket, not cumulative: one count for each bound, and a last one for what is above them all. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export type LatencyQuantile = (typeof CLUSTER_FAMILIES.latency.labels.quantile)[number];

/** Everything that one client (or `_other`) shows. Gauges are null where there is nothing fresh to show. */
export interface ClientSample {
  readonly clientId: string;
  readonly bytesSent: SampleValue;
  readonly bytesReceived: SampleValue;
  readonly packetsSent: SampleValue;
  readonly packetsReceived: SampleValue;
  readonly latency: Readonly<Partial<Record<LatencyQuantile, HistogramSample>>>;
  readonly duration: HistogramSample | null;
  readonly rttMs: number | null;
  readonly throughputInMbps: number | null;
  readonly throughputOutMbps: number | null;
  readonly lossPercent: number | null;
}

/** The cluster's state at one position of the log. */
export interface ClusterSnapshot {
  readonly activeConnections: SampleValue;
  readonly connections: Readonly<Record<(typeof CLUSTER_FAMILIES.connections.labels.status)[number], SampleValue>>;
  readonly errors: Readonly<Record<(typeof CLUSTER_FAMILIES.errors.labels.type)[number], SampleValue>>;
  readonly pool: { readonly total: number; readonly used: number };
  /** Upper bounds of the histograms' buckets, ascending, without +Inf. */
  readonly bounds: { readonly latency: readonly number[]; readonly duration: readonly number[] };
  readonly clients: readonly ClientSample[];
}

/** The unchanging parts of one client's lines. */
interface ClientPrefixes {
  readonly bytesSent: string;
  readonly bytesReceived: string;
  readonly packetsSent: string;
  readonly packetsReceived: string;
  readonly rtt: string;
  readonly throughputIn: string;
  readonly throughputOut: string;
  readonly packetLoss: string;
  readonly duration: HistogramPrefixes;
  readonly latency: Readonly<Record<LatencyQuantile, HistogramPrefixes>>;
}

interface HistogramPrefixes {
  readonly bucket: string;
  readonly sum: string;
  readonly count: string;
}

const QUANTILES = CLUSTER_FAMILIES.latency.labels.quantile;

/**
 * Writes the 15 families in Prometheus' text format 0.0.4. It keeps `name{labels}` of every client it has seen in the last
 * scrape: building those strings costs far more than appending the values.
 */
export class ClusterRenderer {
  private prefixes = new Map<string, ClientPrefixes>();

  render(snapshot: ClusterSnapshot): string {
    const f = CLUSTER_FAMILIES;
    const clients = snapshot.clients.map((sample) => ({ sample, prefix: this.prefixesOf(sample.clientId) }));
    this.forgetAllBut(clients.map(({ sample }) => sample.clientId));
    const { pool } = snapshot;
    let out = head(f.activeConnections) + line(f.activeConnections.name, snapshot.activeConnections);
    out += head(f.connections);
    for (const status of f.connections.labels.status) {
      out += line(series(f.connections.name, { status }), snapshot.connections[status]);
    }
    out += head(f.bytesSent);
    for (const { sample, prefix } of clients) out += `${prefix.bytesSent}${sample.bytesSent}\n`;
    out += head(f.bytesReceived);
    for (const { sample, prefix } of clients) out += `${prefix.bytesReceived}${sample.bytesReceived}\n`;
    out += head(f.packetsSent);
    for (const { sample, prefix } of clients) out += `${prefix.packetsSent}${sample.packetsSent}\n`;
    out += head(f.packetsReceived);
    for (const { sample, prefix } of clients) out += `${prefix.packetsReceived}${sample.packetsReceived}\n`;
    out += head(f.latency);
    for (const { sample, prefix } of clients) {
      for (const quantile of QUANTILES) {
        out += histogram(prefix.latency[quantile], snapshot.bounds.latency, sample.latency[quantile]);
      }
    }
    out += head(f.rtt);
    for (const { sample, prefix } of clients) out += gauge(prefix.rtt, sample.rttMs);
    out += head(f.throughput);
    for (const { sample, prefix } of clients) {
      out +=
        gauge(prefix.throughputIn, sample.throughputInMbps) + gauge(prefix.throughputOut, sample.throughputOutMbps);
    }
    out += head(f.packetLoss);
    for (const { sample, prefix } of clients) out += gauge(prefix.packetLoss, sample.lossPercent);
    const usage = pool.total === 0 ? 0 : (pool.used / pool.total) * 100;
    out += head(f.poolUsage) + line(f.poolUsage.name, usage);
    out += head(f.poolAvailable) + line(f.poolAvailable.name, Math.max(0, pool.total - pool.used));
    out += head(f.poolTotal) + line(f.poolTotal.name, pool.total);
    out += head(f.duration);
    for (const { sample, prefix } of clients) {
      out += histogram(prefix.duration, snapshot.bounds.duration, sample.duration ?? undefined);
    }
    out += head(f.errors);
    for (const type of f.errors.labels.type) out += line(series(f.errors.name, { type }), snapshot.errors[type]);
    return out;
  }

  private prefixesOf(clientId: string): ClientPrefixes {
    const known = this.prefixes.get(clientId);
    if (known) return known;
    const made = makePrefixes(clientId);
    this.prefixes.set(clientId, made);
    return made;
  }

  private forgetAllBut(clientIds: readonly string[]): void {
    if (this.prefixes.size <= clientIds.length) return;
    const keep = new Set(clientIds);
    for (const clientId of this.prefixes.keys()) if (!keep.has(clientId)) this.prefixes.delete(clientId);
  }
}

/** Backslash, double quote and line feed are the three characters that the text format escapes in label values. */
export function escapeLabelValue(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function series(name: string, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escapeLabelValue(value)}"`);
  return `${name}{${pairs.join(',')}}`;
}

function head(family: MetricFamily): string {
  return `# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`;
}

function line(prefix: string, value: SampleValue): string {
  return `${prefix} ${value}\n`;
}

function gauge(prefix: string, value: number | null): string {
  return value === null ? '' : `${prefix}${value}\n`;
}

function histogram(prefix: HistogramPrefixes, bounds: readonly number[], sample: HistogramSample | undefined): string {
  if (!sample) return '';
  let out = '';
  let cumulative = 0;
  for (let i = 0; i < bounds.length; i++) {
    cumulative += sample.counts[i] ?? 0;
    out += `${prefix.bucket}${bounds[i]}"} ${cumulative}\n`;
  }
  cumulative += sample.counts[bounds.length] ?? 0;
  return `${out}${prefix.bucket}+Inf"} ${cumulative}\n${prefix.sum}${sample.sum}\n${prefix.count}${cumulative}\n`;
}

function makePrefixes(client_id: string): ClientPrefixes {
  const f = CLUSTER_FAMILIES;
  const of = (name: string, labels: Readonly<Record<string, string>> = {}) =>
    `${series(name, { client_id, ...labels })} `;
  const histogramOf = (name: string, labels: Readonly<Record<string, string>> = {}): HistogramPrefixes => ({
    bucket: `${series(`${name}_bucket`, { client_id, ...labels }).slice(0, -1)},le="`,
    sum: of(`${name}_sum`, labels),
    count: of(`${name}_count`, labels),
  });
  return {
    bytesSent: of(f.bytesSent.name),
    bytesReceived: of(f.bytesReceived.name),
    packetsSent: of(f.packetsSent.name),
    packetsReceived: of(f.packetsReceived.name),
    rtt: of(f.rtt.name),
    throughputIn: of(f.throughput.name, { direction: 'in' }),
    throughputOut: of(f.throughput.name, { direction: 'out' }),
    packetLoss: of(f.packetLoss.name),
    duration: histogramOf(f.duration.name),
    latency: {
      '0.5': histogramOf(f.latency.name, { quantile: '0.5' }),
      '0.95': histogramOf(f.latency.name, { quantile: '0.95' }),
      '0.99': histogramOf(f.latency.name, { quantile: '0.99' }),
    },
  };
}
