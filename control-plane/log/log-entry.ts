import type { EventType, VpnEvent } from '../../shared/events/envelope.ts';

/** An event and its place in the log. */
export interface LogEntry<T extends EventType = EventType> {
  /** Order of application, from 1 without holes. */
  readonly position: number;
  /** Sequence of its message in JetStream; null for what the control plane decides itself. */
  readonly streamSeq: number | null;
  /** As the current version of its type has it. */
  readonly event: VpnEvent<T>;
  /** Version and data that the log keeps, where an earlier build wrote the event. */
  readonly written?: { readonly version: number; readonly data: object } | undefined;
  /** The dead letter that it was applied from, after the events that its sender wrote later. */
  readonly retryOf?: number | undefined;
}
