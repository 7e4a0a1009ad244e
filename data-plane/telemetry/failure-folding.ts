import type { NewEvent } from '../../shared/events/envelope.ts';
import type { NodeEventData } from '../../shared/events/node-events.ts';
import { remoteParty } from '../ip/remote-party.ts';

/** Failures of one remote address in one second that get an event each. */
export const MAX_FAILURES_PER_SECOND = 10;
/** Ours: remote addresses told apart at once; what comes from more of them is counted together. */
export const MAX_FAILURE_SOURCES = 1_000;
const WINDOW_MS = 1_000;

export type ConnectionFailure = Omit<NodeEventData<'connection.failed'>, 'count'>;

interface Source {
  windowStart: number;
  seen: number;
}

/**
 * Keeps strangers from filling the log: above 10 failures a second from one remote address (/64 in IPv6), one event a
 * second carries a count. Pure: times are milliseconds of any steady clock, `at` is the wall clock of the events.
 */
export class FailureFolding {
  readonly #sources = new Map<string, Source>();
  /** By source, status and type of error; the first failure of each stands for the rest. */
  readonly #folded = new Map<string, NodeEventData<'connection.failed'>>();
  readonly #maxSources: number;

  constructor(maxSources = MAX_FAILURE_SOURCES) {
    this.#maxSources = maxSources;
  }

  /** The event to append now, or undefined when the failure was folded into one that `flush` gives. */
  record(failure: ConnectionFailure, now: number, at: Date): NewEvent<'connection.failed'> | undefined {
    const key = remoteParty(failure.remoteAddress);
    let source = this.#sources.get(key);
    if (source !== undefined && now - source.windowStart >= WINDOW_MS) {
      source.windowStart = now;
      source.seen = 0;
    }
    if (source === undefined && this.#sources.size < this.#maxSources) {
      source = { windowStart: now, seen: 0 };
      this.#sources.set(key, source);
    }
    if (source !== undefined && ++source.seen <= MAX_FAILURES_PER_SECOND) return eventOf({ ...failure, count: 1 }, at);
    if (source !== undefined) this.#fold(key, { ...failure, count: 1 });
    else this.#fold('', { ...failure, remoteAddress: '0.0.0.0', reason: 'many remote addresses', count: 1 });
    return undefined;
  }

  /** Takes back an event that could not be stored. */
  putBack(event: NewEvent<'connection.failed'>): void {
    this.#fold(remoteParty(event.data.remoteAddress), event.data);
  }

  /** The events with counts that are due; call it every second. */
  flush(now: number, at: Date): NewEvent<'connection.failed'>[] {
    const events = [...this.#folded.values()].map((data) => eventOf(data, at));
    this.#folded.clear();
    for (const [key, source] of this.#sources) if (now - source.windowStart >= WINDOW_MS) this.#sources.delete(key);
    return events;
  }

  #fold(source: string, data: NodeEventData<'connection.failed'>): void {
    let key = `${source} ${data.status} ${data.errorType}`;
    let next = data;
    if (!this.#folded.has(key) && this.#folded.size >= this.#maxSources) {
      key = ` ${data.status} ${data.errorType}`;
      next = { ...data, remoteAddress: '0.0.0.0', reason: 'many remote addresses' };
    }
    const first = this.#folded.get(key);
    if (first === undefined) this.#folded.set(key, next);
    else {
      const clientId = first.clientId === next.clientId ? first.clientId : null;
      this.#folded.set(key, { ...first, clientId, count: first.count + next.count });
    }
  }
}

function eventOf(data: NodeEventData<'connection.failed'>, at: Date): NewEvent<'connection.failed'> {
  return { type: 'connection.failed', at: at.toISOString(), data };
}
