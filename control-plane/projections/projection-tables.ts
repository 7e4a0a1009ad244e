import type { Tables } from '../storage/tables.ts';

/** A table that follows from the log alone, so that it can be thrown away and made again from it. */
export interface ProjectionTable {
  readonly name: keyof Tables;
  /** The columns that tell its rows apart, for people who compare two of it. */
  readonly key: readonly string[];
  /** Columns that the log does not decide: numbers of rows, times of writing, what metrics keep beside the totals. */
  readonly ignored?: readonly string[];
  /** Sums of fractions: their last digits depend on how events were batched. */
  readonly approximate?: readonly string[];
  /** Columns that a rebuilt table takes over from the live one, row by row. */
  readonly carried?: readonly string[];
  /** Rows that are there before the first event. */
  readonly initially?: ReadonlyArray<Readonly<Record<string, string | number>>>;
  /** Indexes and constraints that no projection needs, so that a rebuild makes them after the load, which is faster. */
  readonly deferred?: readonly string[];
  /**
   * It is partitioned by position, and this function makes the partitions up to a position. Its rows never change, and
   * those older than the log have no other copy than the live one.
   */
  readonly partitionedBy?: string;
}

const zero = (name: string, labels: readonly string[]) => labels.map((label) => ({ name, label, value: 0 }));

/** All of them. Whoever adds a table adds it here or to OTHER_TABLES. */
export const PROJECTION_TABLES: readonly ProjectionTable[] = [
  { name: 'nodes', key: ['node'] },
  { name: 'clients', key: ['client_id'] },
  {
    name: 'connections',
    key: ['connection_id'],
    deferred: ['connections_newest', 'connections_client', 'connections_span'],
  },
  {
    name: 'connection_failures',
    key: ['position'],
    deferred: ['connection_failures_pkey', 'connection_failures_at', 'connection_failures_auth'],
  },
  {
    name: 'traffic',
    key: ['position', 'connection_id'],
    deferred: ['traffic_pkey', 'traffic_window_end'],
    partitionedBy: 'ensure_traffic_partitions',
  },
  { name: 'traffic_fold', key: ['singleton'], initially: [{ position: 0 }] },
  { name: 'traffic_hourly', key: ['client_id', 'hour', 'node'], deferred: ['traffic_hourly_hour'] },
  { name: 'traffic_daily', key: ['client_id', 'day', 'node'], deferred: ['traffic_daily_day'] },
  {
    name: 'ip_ledger',
    key: ['position', 'entry', 'block', 'address', 'connection_id'],
    ignored: ['id'],
    deferred: ['ip_ledger_pkey', 'ip_ledger_address', 'ip_ledger_block', 'ip_ledger_position'],
  },
  { name: 'block_grants', key: ['granted_position', 'block'], ignored: ['id'] },
  {
    name: 'address_assignments',
    key: ['assigned_position'],
    ignored: ['id'],
    deferred: [
      'address_assignments_assigned_position_key',
      'address_assignments_connection',
      'address_assignments_client',
    ],
  },
  { name: 'held', key: ['pool', 'address'] },
  { name: 'address_conflicts', key: ['position'], ignored: ['id', 'recorded_at'] },
  {
    name: 'event_counters',
    key: ['name', 'label'],
    initially: [
      ...zero('connections', ['established', 'failed', 'closed']),
      ...zero('errors', ['connection', 'packet', 'auth', 'other']),
    ],
  },
  {
    name: 'client_totals',
    key: ['client_id'],
    ignored: ['folded_bytes_sent', 'folded_bytes_received', 'folded_packets_sent', 'folded_packets_received'],
    carried: ['folded_bytes_sent', 'folded_bytes_received', 'folded_packets_sent', 'folded_packets_received'],
  },
  {
    name: 'client_histograms',
    key: ['client_id', 'family', 'quantile'],
    ignored: ['folded_buckets', 'folded_sum', 'folded_count'],
    approximate: ['sum'],
    carried: ['folded_buckets', 'folded_sum', 'folded_count'],
  },
  { name: 'admin_events', key: ['position'] },
];

/**
 * Tables that nothing makes again from the log: those that are it, those of what no event says, and those that decisions are made from, which
 * are written with their events and which `verify` compares with what the log makes of them.
 */
export const OTHER_TABLES: readonly string[] = [
  'events',
  'event_checkpoint',
  'leadership',
  'log_lock',
  'node_epochs',
  'parked_events',
  'event_gaps',
  'dead_letter',
  'outbox',
  'aggregate_events',
  'block_states',
  'block_requests',
  'client_credentials',
  'node_presence',
  'spool_reports',
  'client_series',
  'epoch_counts',
  'static_addresses',
  'pool_states',
  'pool_usage',
  'log_keeping',
  'projection_copies',
];
