import { DEFAULT_POOL } from '../ip/block.ts';
import type { EventType } from './envelope.ts';
import { withColumns } from './traffic-columns.ts';

/** Data of one version into that of the next. Pure, and total: what was wrong before is wrong afterwards, and found then. */
type Upcaster = (data: object) => object;

/** What of an event depends on its version. */
export interface VersionedEvent {
  readonly type: string;
  readonly version: number;
  readonly data: object;
}

/** Clients belonged to no pool by name before there was more than one. */
const withPool: Upcaster = (data) => ({ ...data, pool: DEFAULT_POOL });

/**
 * What a type's data went through: the first function makes version 2 of version 1, and so on. Types that are not named have one
 * version. Never edited, only added to, with a file in test/golden/events/ for every version: the log keeps events as they were written.
 */
const UPCASTERS: Readonly<Partial<Record<EventType, readonly Upcaster[]>>> = {
  'client.enrolled': [withPool],
  'client.updated': [withPool],
  'traffic.sampled': [withColumns],
};

/** The version that this build writes of a type. */
export function currentVersion(type: EventType): number {
  return (UPCASTERS[type]?.length ?? 0) + 1;
}

/** An event of any version up to the current one, as the current version of its type has it. */
export function inCurrentVersion<E extends VersionedEvent>(event: E): E {
  const version = currentVersion(event.type as EventType);
  if (event.version === version) return event;
  const steps = (UPCASTERS[event.type as EventType] ?? []).slice(event.version - 1);
  return { ...event, version, data: steps.reduce((older, step) => step(older), event.data) };
}
