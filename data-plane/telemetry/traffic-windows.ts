import type { NewEvent } from '../../shared/events/envelope.ts';
import type { NodeEventData } from '../../shared/events/node-events.ts';
import {
  columnsOf,
  MAX_SAMPLES_PER_WINDOW,
  type TrafficSample,
  type TrafficTotals,
} from '../../shared/events/traffic-columns.ts';

/** Ours: an event fits into a message with room for others. */
const MAX_EVENT_BYTES = 256 * 1024;
/** More than a sample takes, by its schema: so many connections fit without a look. */
const MAX_SAMPLE_BYTES = 1_024;
/** Ours: latencies kept of one connection while the spool refuses windows; the oldest go first. */
const MAX_LATENCIES = 1_000;
/** Ours: how many windows a closed connection is remembered, so that a snapshot that was under way adds nothing. */
const REMEMBER_CLOSED_WINDOWS = 3;
const US_PER_MS = 1_000;
/** Ours: more than the probes of a window. */
const MAX_INSERTED = 32;

/** What the packet thread says of one connection at the end of a window. */
export interface ConnectionSnapshot {
  readonly connectionId: string;
  readonly clientId: string;
  /** Since the connection was opened. */
  readonly totals: TrafficTotals;
  readonly rttMs: number | null;
  /** Echo probes of this window only. */
  readonly probe: { readonly sent: number; readonly answered: number; readonly latenciesMs: readonly number[] };
}

export interface WindowCounters {
  /** Since the process started; errors that are no `connection.failed`. */
  readonly errors: { readonly packet: number; readonly other: number };
  /** Since the process started: dropped packets by reason. */
  readonly drops: Readonly<Record<string, number>>;
}

export interface TrafficWindowsOptions {
  /** Rejects when nothing was stored; then the window is merged into the next one. */
  readonly append: (events: NewEvent<'traffic.sampled'>[]) => Promise<unknown>;
  readonly startedAt: Date;
}

interface ConnectionState {
  readonly clientId: string;
  /** The totals at the end of the last window that was stored. */
  stored: TrafficTotals;
  current: TrafficTotals;
  rttMs: number | null;
  everAnswered: boolean;
  sent: number;
  answered: number;
  latenciesMs: readonly number[];
}

const NO_TRAFFIC: TrafficTotals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
const NO_COUNTERS: WindowCounters = { errors: { packet: 0, other: 0 }, drops: {} };

/**
 * Turns cumulative counters into `traffic.sampled` events: what was added since the last window that was stored. A window
 * that the spool refuses is merged into the next one, so deltas always add up.
 */
export class TrafficWindows {
  readonly #append: TrafficWindowsOptions['append'];
  readonly #connections = new Map<string, ConnectionState>();
  readonly #closed = new Map<string, number>();
  /** Windows that wait for those before them. */
  #waiting = 0;
  #storedCounters = NO_COUNTERS;
  #windowStart: Date;
  #queue: Promise<void> = Promise.resolve();

  constructor(options: TrafficWindowsOptions) {
    this.#append = options.append;
    this.#windowStart = options.startedAt;
  }

  /** Ends a window. Rejects as `append` does; nothing is lost then. Windows are stored one after the other. */
  record(windowEnd: Date, snapshots: readonly ConnectionSnapshot[], counters: WindowCounters): Promise<void> {
    this.#waiting++;
    const stored = this.#queue.then(() => this.#record(windowEnd, snapshots, counters));
    this.#queue = stored.catch(() => undefined);
    return stored;
  }

  /** Resolves when the windows that were recorded so far are stored or refused. */
  settle(): Promise<void> {
    return this.#queue;
  }

  /** The connection is closed: its close event carries its totals, so windows say nothing more of it. */
  forget(connectionId: string): void {
    this.#connections.delete(connectionId);
    this.#closed.set(connectionId, this.#waiting + REMEMBER_CLOSED_WINDOWS);
  }

  async #record(end: Date, snapshots: readonly ConnectionSnapshot[], counters: WindowCounters): Promise<void> {
    this.#waiting--;
    for (const snapshot of snapshots) if (!this.#closed.has(snapshot.connectionId)) this.#take(snapshot);
    for (const [id, windows] of this.#closed) {
      if (windows > 1) this.#closed.set(id, windows - 1);
      else this.#closed.delete(id);
    }
    const written = [...this.#connections].map(([id, state]) => ({ state, totals: state.current, id }));
    const samples = written.map(({ id, state }) => sampleOf(id, state));
    const errors = {
      packet: added(counters.errors.packet, this.#storedCounters.errors.packet),
      other: added(counters.errors.other, this.#storedCounters.errors.other),
    };
    const drops = addedByReason(counters.drops, this.#storedCounters.drops);
    if (samples.length > 0 || errors.packet + errors.other > 0 || Object.keys(drops).length > 0) {
      const window = { windowStart: this.#windowStart.toISOString(), windowEnd: end.toISOString() };
      await this.#append(eventsOf(window, { errors, drops }, samples));
    }
    this.#windowStart = end;
    this.#storedCounters = counters;
    for (const { state, totals } of written) {
      state.stored = totals;
      state.sent = 0;
      state.answered = 0;
      state.latenciesMs = [];
    }
  }

  #take({ connectionId, clientId, totals, rttMs, probe }: ConnectionSnapshot): void {
    const known = this.#connections.get(connectionId);
    const state: ConnectionState = known ?? {
      clientId,
      stored: NO_TRAFFIC,
      current: totals,
      rttMs,
      everAnswered: false,
      sent: 0,
      answered: 0,
      latenciesMs: [],
    };
    if (known === undefined) this.#connections.set(connectionId, state);
    state.current = totals;
    state.rttMs = rttMs;
    state.everAnswered ||= probe.answered > 0;
    state.sent += probe.sent;
    state.answered += probe.answered;
    const { latenciesMs } = state;
    const all = latenciesMs.length === 0 ? probe.latenciesMs : latenciesMs.concat(probe.latenciesMs);
    state.latenciesMs = all.length > MAX_LATENCIES ? all.slice(-MAX_LATENCIES) : all;
  }
}

/** The nearest-rank percentile: the smallest value that at least `percent` of the values do not exceed. */
export function nearestRank(sorted: readonly number[], percent: number): number {
  const rank = Math.max(1, Math.ceil((percent / 100) * sorted.length));
  const value = sorted[rank - 1];
  if (value === undefined) throw new RangeError('a percentile of no values');
  return value;
}

/** In place. Up to MAX_INSERTED of them without what sort() makes for itself: this is done for each connection and window. */
function ascending(values: number[]): number[] {
  if (values.length > MAX_INSERTED) return values.sort((a, b) => a - b);
  for (let next = 1; next < values.length; next++) {
    const value = values[next]!;
    let at = next;
    for (; at > 0 && values[at - 1]! > value; at--) values[at] = values[at - 1]!;
    values[at] = value;
  }
  return values;
}

function sampleOf(connectionId: string, state: ConnectionState): TrafficSample {
  const sorted = ascending(state.latenciesMs.map(inMicroseconds));
  return {
    connectionId,
    clientId: state.clientId,
    bytesIn: added(state.current.bytesIn, state.stored.bytesIn),
    bytesOut: added(state.current.bytesOut, state.stored.bytesOut),
    packetsIn: added(state.current.packetsIn, state.stored.packetsIn),
    packetsOut: added(state.current.packetsOut, state.stored.packetsOut),
    rttMs: state.rttMs === null ? null : inMicroseconds(state.rttMs),
    latencyMs:
      sorted.length === 0
        ? null
        : { p50: nearestRank(sorted, 50), p95: nearestRank(sorted, 95), p99: nearestRank(sorted, 99) },
    lossPercent: lossPercent(state),
  };
}

/** What is beyond is noise of the clock: the control plane adds up whole microseconds, and the log is smaller without. */
function inMicroseconds(ms: number): number {
  return Math.round(ms * US_PER_MS) / US_PER_MS;
}

/** An answer may come a window later than its probe, so there can be more answers than probes. */
function lossPercent({ everAnswered, sent, answered }: ConnectionState): number | null {
  if (!everAnswered || sent === 0) return null;
  return (100 * Math.max(0, sent - answered)) / sent;
}

/** A counter that fell was started afresh with its packet thread: all of it is new. */
function added(current: number, stored: number): number {
  return current >= stored ? current - stored : current;
}

function addedByReason(
  current: Readonly<Record<string, number>>,
  stored: Readonly<Record<string, number>>,
): Record<string, number> {
  const deltas = Object.entries(current).map(([reason, count]) => [reason, added(count, stored[reason] ?? 0)] as const);
  return Object.fromEntries(deltas.filter(([, delta]) => delta > 0));
}

type Window = Pick<NodeEventData<'traffic.sampled'>, 'windowStart' | 'windowEnd'>;
type Errors = Pick<NodeEventData<'traffic.sampled'>, 'errors' | 'drops'>;

function eventsOf(window: Window, errors: Errors, samples: TrafficSample[]): NewEvent<'traffic.sampled'>[] {
  if (samples.length <= MAX_SAMPLES_PER_WINDOW) {
    const event: NewEvent<'traffic.sampled'> = {
      type: 'traffic.sampled',
      at: window.windowEnd,
      data: { ...window, ...errors, samples: columnsOf(samples) },
    };
    const isSmall = samples.length <= 1 || samples.length < MAX_EVENT_BYTES / MAX_SAMPLE_BYTES;
    if (isSmall || JSON.stringify(event).length <= MAX_EVENT_BYTES) return [event];
  }
  const half = Math.min(MAX_SAMPLES_PER_WINDOW, Math.ceil(samples.length / 2));
  // The counters of the node are in the first event only.
  const nothing: Errors = { errors: NO_COUNTERS.errors, drops: {} };
  return [...eventsOf(window, errors, samples.slice(0, half)), ...eventsOf(window, nothing, samples.slice(half))];
}
