/** Which values a label takes: a fixed set, or any client id. */
export type LabelValues = readonly string[] | 'client_id';

export interface MetricFamily {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** In the order in which they are written. */
  readonly labels: Readonly<Record<string, LabelValues>>;
}

const client = { client_id: 'client_id' } as const;

/** The families that users of the cluster rely on: names, types and labels never change within a major version. */
export const CLUSTER_FAMILIES = {
  activeConnections: {
    name: 'masque_vpn_active_connections_total',
    type: 'gauge',
    help: 'Current number of active VPN connections',
    labels: {},
  },
  connections: {
    name: 'masque_vpn_connections_total',
    type: 'counter',
    help: 'Connections by status: established, failed to be established, closed',
    labels: { status: ['established', 'failed', 'closed'] },
  },
  bytesSent: {
    name: 'masque_vpn_bytes_sent_total',
    type: 'counter',
    help: 'Bytes of inner IP packets sent to the client',
    labels: client,
  },
  bytesReceived: {
    name: 'masque_vpn_bytes_received_total',
    type: 'counter',
    help: 'Bytes of inner IP packets received from the client',
    labels: client,
  },
  packetsSent: {
    name: 'masque_vpn_packets_sent_total',
    type: 'counter',
    help: 'Inner IP packets sent to the client',
    labels: client,
  },
  packetsReceived: {
    name: 'masque_vpn_packets_received_total',
    type: 'counter',
    help: 'Inner IP packets received from the client',
    labels: client,
  },
  latency: {
    name: 'masque_vpn_latency_ms',
    type: 'histogram',
    help: 'Latency through the tunnel in milliseconds: the p50, p95 and p99 of each window, observed under their quantile',
    labels: { ...client, quantile: ['0.5', '0.95', '0.99'] },
  },
  rtt: {
    name: 'masque_vpn_rtt_ms',
    type: 'gauge',
    help: 'Smoothed round-trip time of the tunnel in milliseconds',
    labels: client,
  },
  throughput: {
    name: 'masque_vpn_throughput_mbps',
    type: 'gauge',
    help: 'Throughput of the last window in Mbit/s: in from the client, out to it',
    labels: { ...client, direction: ['in', 'out'] },
  },
  packetLoss: {
    name: 'masque_vpn_packet_loss_percent',
    type: 'gauge',
    help: 'Echo probes of the last window that were not answered, in percent',
    labels: client,
  },
  poolUsage: {
    name: 'masque_vpn_ip_pool_usage_percent',
    type: 'gauge',
    help: 'IP pool addresses in use, in percent',
    labels: {},
  },
  poolAvailable: {
    name: 'masque_vpn_ip_pool_available',
    type: 'gauge',
    help: 'IP pool addresses that are not in use',
    labels: {},
  },
  poolTotal: {
    name: 'masque_vpn_ip_pool_total',
    type: 'gauge',
    help: 'IP pool addresses that clients can get',
    labels: {},
  },
  duration: {
    name: 'masque_vpn_connection_duration_seconds',
    type: 'histogram',
    help: 'Duration of connections in seconds, observed when they end',
    labels: client,
  },
  errors: {
    name: 'masque_vpn_errors_total',
    type: 'counter',
    help: 'Errors by type',
    labels: { type: ['connection', 'packet', 'auth', 'other'] },
  },
} as const satisfies Record<string, MetricFamily>;

/** The client id under which those beyond the limit on client series are counted; no client can have it. */
export const OTHER_CLIENTS = '_other';

/** What `promtool check metrics` says about these names. They are the contract, so these lines, and only these, are expected. */
export const EXPECTED_LINT = [
  'masque_vpn_active_connections_total non-counter metrics should not have "_total" suffix',
  'masque_vpn_ip_pool_total non-counter metrics should not have "_total" suffix',
  'masque_vpn_latency_ms metric names should not contain abbreviated units',
  'masque_vpn_latency_ms non-summary metrics should not have "quantile" label',
  'masque_vpn_rtt_ms metric names should not contain abbreviated units',
] as const;
