import type { ColumnType, Generated, GeneratedAlways, Selectable } from 'kysely';
import type { VpnEvent } from '../../shared/events/envelope.ts';
import type { CloseReason, Transport } from '../../shared/events/node-events.ts';

// The meaning of every table and column is in the database itself: see COMMENT ON in migrations/.

/** A moment: read as Date, written as Date or ISO text. */
type Timestamp = ColumnType<Date, Date | string, Date | string>;
type NullableTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;
/** Read as parsed JSON, written as its text. */
type Json<T> = ColumnType<T, string, string>;

export interface LeadershipTable {
  singleton: Generated<boolean>;
  owner_epoch: number;
  holder: string | null;
  application_name: string | null;
  since: NullableTimestamp;
  confirmed_at: NullableTimestamp;
}

export interface EventCheckpointTable {
  singleton: Generated<boolean>;
  owner_epoch: number;
  stream_created: string | null;
  stream_seq: number;
  position: number;
  committed_at: Generated<Timestamp>;
}

export interface EventsTable {
  position: number;
  node: string;
  epoch: string;
  seq: number;
  incarnation: string;
  type: VpnEvent['type'];
  version: number;
  at: Timestamp;
  data: Json<VpnEvent['data']>;
  stream_seq: number | null;
  recorded_at: Generated<Timestamp>;
  retry_of: Generated<number | null>;
}

export interface NodeEpochsTable {
  node: string;
  epoch: string;
  applied_seq: number;
  current: boolean;
  first_at: NullableTimestamp;
  last_at: NullableTimestamp;
}

export interface ParkedEventsTable {
  node: string;
  epoch: string;
  seq: number;
  envelope: Json<VpnEvent>;
  stream_seq: number;
  parked_at: Generated<Timestamp>;
}

export interface EventGapsTable {
  node: string;
  epoch: string;
  from_seq: number;
  to_seq: number;
  replaced_by: string;
  detected_at: Generated<Timestamp>;
}

export interface DeadLetterTable {
  id: GeneratedAlways<number>;
  node: string | null;
  epoch: string | null;
  seq: number | null;
  type: string | null;
  subject: string | null;
  stream_created: string | null;
  stream_seq: number | null;
  payload: Buffer;
  error_code: string;
  error: string;
  recorded_at: Generated<Timestamp>;
  tried_at: NullableTimestamp;
  resolved_at: NullableTimestamp;
  resolved_position: number | null;
}

export interface OutboxTable {
  seq: number;
  epoch: string;
  position: number;
  envelope: Json<VpnEvent>;
  recorded_at: Generated<Timestamp>;
}

export interface ProjectionCopiesTable {
  schema: string;
  from_position: number;
  position: number;
  started_at: Generated<Timestamp>;
  updated_at: Generated<Timestamp>;
}

export interface LogKeepingTable {
  singleton: Generated<boolean>;
  partition_size: Generated<number>;
  positions_ahead: Generated<number>;
}

export interface NodesTable {
  node: string;
  epoch: string;
  incarnation: string;
  state: 'up' | 'draining' | 'stopped' | 'lost';
  software_version: string | null;
  listen: string | null;
  tunnel_mtu: number | null;
  started_at: NullableTimestamp;
  stopped_at: NullableTimestamp;
  lost_at: NullableTimestamp;
  last_event_at: Timestamp;
}

export interface ClientsTable {
  client_id: string;
  name: string | null;
  pool: string;
  addresses: string[];
  state: 'active' | 'revoked';
  enrolled_at: NullableTimestamp;
  updated_at: NullableTimestamp;
  revoked_at: NullableTimestamp;
}

export interface ConnectionsTable {
  connection_id: string;
  client_id: string;
  node: string;
  incarnation: string;
  state: 'open' | 'presumed' | 'closed';
  reason: CloseReason | null;
  detail: string | null;
  remote_address: string | null;
  remote_port: number | null;
  transport: Transport | null;
  tunnel_mtu: number | null;
  established_at: NullableTimestamp;
  presumed_at: NullableTimestamp;
  closed_at: NullableTimestamp;
  duration_ms: number | null;
  sampled_bytes_in: Generated<number>;
  sampled_bytes_out: Generated<number>;
  sampled_packets_in: Generated<number>;
  sampled_packets_out: Generated<number>;
  close_bytes_in: number | null;
  close_bytes_out: number | null;
  close_packets_in: number | null;
  close_packets_out: number | null;
  bytes_in: GeneratedAlways<number>;
  bytes_out: GeneratedAlways<number>;
  packets_in: GeneratedAlways<number>;
  packets_out: GeneratedAlways<number>;
  /** The text of a datemultirange. */
  traffic_days: Generated<string>;
}

export interface ConnectionFailuresTable {
  position: number;
  at: Timestamp;
  node: string;
  remote_address: string | null;
  client_id: string | null;
  status: number;
  reason: string;
  error_type: 'auth' | 'connection';
  count: number;
}

export interface TrafficTable {
  position: number;
  connection_id: string;
  client_id: string;
  node: string;
  kind: 'window' | 'late' | 'close';
  window_start: Timestamp;
  window_end: Timestamp;
  bytes_in: number;
  bytes_out: number;
  packets_in: number;
  packets_out: number;
  rtt_ms: number | null;
  latency_p50_ms: number | null;
  latency_p95_ms: number | null;
  latency_p99_ms: number | null;
  loss_percent: number | null;
}

export interface TrafficFoldTable {
  singleton: Generated<boolean>;
  position: number;
  round_end: number | null;
  slices: Generated<number>;
}

interface MovedTraffic {
  client_id: string;
  node: string;
  bytes_in: number;
  bytes_out: number;
  packets_in: number;
  packets_out: number;
}

export interface TrafficHourlyTable extends MovedTraffic {
  hour: Timestamp;
}

export interface TrafficDailyTable extends MovedTraffic {
  day: string;
  connections: number;
}

export interface IpLedgerTable {
  id: GeneratedAlways<number>;
  position: number;
  event_node: string;
  event_epoch: string;
  event_seq: number;
  event_type: string;
  at: Timestamp;
  entry: 'granted' | 'renewed' | 'returned' | 'reclaimed' | 'assigned' | 'released' | 'conflict';
  node: string;
  pool: string;
  block: string;
  address: string | null;
  client_id: string | null;
  connection_id: string | null;
  lease_end: NullableTimestamp;
  reason: string | null;
}

export interface BlockGrantsTable {
  id: GeneratedAlways<number>;
  block: string;
  pool: string;
  node: string;
  /** The text of a tstzrange; use lower(during) and upper(during) in queries. */
  during: string;
  lease_end: Timestamp;
  end_reason: 'returned' | 'reclaimed' | null;
  granted_position: number;
  ended_position: number | null;
}

export interface AddressAssignmentsTable {
  id: GeneratedAlways<number>;
  address: string;
  pool: string;
  block: string;
  client_id: string;
  node: string;
  connection_id: string;
  /** The text of a tstzrange; use lower(during) and upper(during) in queries. */
  during: string;
  end_reason: string | null;
  assigned_position: number;
  ended_position: number | null;
}

export interface HeldTable {
  pool: string;
  address: string;
  block: string;
  client_id: string;
  node: string;
  connection_id: string;
  since: Timestamp;
  released_at: NullableTimestamp;
}

export interface AddressConflictsTable {
  id: GeneratedAlways<number>;
  address: string;
  position: number;
  at: Timestamp;
  node: string;
  client_id: string;
  connection_id: string;
  holder_position: number;
  holder_node: string;
  holder_client_id: string;
  holder_connection_id: string;
  recorded_at: Generated<Timestamp>;
}

export interface EventCountersTable {
  name: 'connections' | 'errors' | 'drops';
  label: string;
  value: number;
}

export interface ClientTotalsTable {
  client_id: string;
  bytes_sent: Generated<number>;
  bytes_received: Generated<number>;
  packets_sent: Generated<number>;
  packets_received: Generated<number>;
  folded_bytes_sent: Generated<number>;
  folded_bytes_received: Generated<number>;
  folded_packets_sent: Generated<number>;
  folded_packets_received: Generated<number>;
  last_seen: Timestamp;
}

export type HistogramFamily = 'latency_ms' | 'connection_duration_seconds';
export type HistogramQuantile = '' | '0.5' | '0.95' | '0.99';

export interface ClientHistogramsTable {
  client_id: string;
  family: HistogramFamily;
  quantile: HistogramQuantile;
  buckets: number[];
  /** A decimal as text: sums of it do not depend on their order. */
  sum: string;
  count: number;
  folded_buckets: number[] | null;
  folded_sum: Generated<string>;
  folded_count: Generated<number>;
}

export interface AdminEventsTable {
  position: number;
  at: Timestamp;
  actor: string;
  type: string;
  subject_kind: string;
  subject_id: string;
  change: Json<Record<string, unknown>>;
}

/** Written by a trigger of `events` alone. */
export interface EpochCountsTable {
  node: string;
  epoch: string;
  events: number;
  first_seq: number;
  last_seq: number;
  last_position: number;
  stopped_seq: number | null;
  last_recorded_at: Timestamp;
}

export interface ConnectionHistoryView {
  connection_id: string;
  client_id: string;
  node: string;
  state: ConnectionsTable['state'];
  established_at: Date | null;
  closed_at: Date | null;
  reason: CloseReason | null;
  detail: string | null;
  duration_seconds: number | null;
  transport: Transport | null;
  remote_address: string | null;
  remote_port: number | null;
  addresses: string[] | null;
  bytes_sent: number;
  bytes_received: number;
  packets_sent: number;
  packets_received: number;
  presumed_at: Date | null;
}

export interface UsageDailyView {
  day: string;
  client_id: string;
  node: string;
  bytes_sent: number;
  bytes_received: number;
  packets_sent: number;
  packets_received: number;
  connections: number;
}

export interface AddressHistoryView {
  address: string;
  client_id: string;
  node: string;
  connection_id: string;
  held_from: Date;
  held_until: Date | null;
  end_reason: string | null;
  block: string;
  pool: string;
  during: string;
}

export interface FailedAuthenticationsView {
  remote_address: string | null;
  at: Date;
  failures: number;
  node: string;
  client_id: string | null;
  status: number;
  reason: string;
  position: number;
}

export interface CompletenessView {
  node: string;
  epoch: string;
  current: boolean;
  first_seq: number | null;
  last_seq: number;
  in_log: number;
  lost: number;
  dead_letters: number;
  parked: number;
  unexplained: number;
  first_at: Date | null;
  last_at: Date | null;
  recorded_at: Date | null;
  verdict: string;
  reported_seq: number | null;
}

export interface PoolStatesTable {
  name: string;
  version: number;
  state: 'active' | 'retiring' | 'retired';
  /** The text of an array of cidr. */
  prefixes: string;
  block_prefix_v4: number;
  block_prefix_v6: number;
  close_tunnels: Generated<boolean>;
  state_since: Timestamp;
}

export interface PoolUsageTable {
  at: Generated<Timestamp>;
  pool: string;
  family: 4 | 6;
  state: 'active' | 'retiring';
  total: number;
  granted: number;
  used: number;
  available: number;
  exhaustion_seconds: number | null;
}

/** All tables and views. */
export interface Tables {
  leadership: LeadershipTable;
  event_checkpoint: EventCheckpointTable;
  events: EventsTable;
  node_epochs: NodeEpochsTable;
  parked_events: ParkedEventsTable;
  event_gaps: EventGapsTable;
  dead_letter: DeadLetterTable;
  outbox: OutboxTable;
  projection_copies: ProjectionCopiesTable;
  log_keeping: LogKeepingTable;
  nodes: NodesTable;
  clients: ClientsTable;
  connections: ConnectionsTable;
  connection_failures: ConnectionFailuresTable;
  traffic: TrafficTable;
  traffic_fold: TrafficFoldTable;
  traffic_hourly: TrafficHourlyTable;
  traffic_daily: TrafficDailyTable;
  ip_ledger: IpLedgerTable;
  block_grants: BlockGrantsTable;
  address_assignments: AddressAssignmentsTable;
  held: HeldTable;
  address_conflicts: AddressConflictsTable;
  event_counters: EventCountersTable;
  client_totals: ClientTotalsTable;
  client_histograms: ClientHistogramsTable;
  admin_events: AdminEventsTable;
  epoch_counts: EpochCountsTable;
  connection_history: ConnectionHistoryView;
  usage_daily: UsageDailyView;
  address_history: AddressHistoryView;
  failed_authentications: FailedAuthenticationsView;
  admin_changes: AdminEventsTable;
  completeness: CompletenessView;
  pool_states: PoolStatesTable;
  pool_usage: PoolUsageTable;
}

export type Row<T extends keyof Tables> = Selectable<Tables[T]>;
