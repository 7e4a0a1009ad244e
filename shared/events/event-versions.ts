import { DEFAULT_POOL } from '../ip/block.ts';
import type { EventType } from './envelope.ts';

/** Data of one version into that of the next. Pure, and total: what was wrong before is wrong afterwards, and found then. */
type Upcaster = (data: object) => object;

/** Clients belonged to no pool by name before there was more than one. */
const withPool: Upcaster = (data) => ({ ...data, pool: DEFAULT_POOL });

/**
 * What a type's data went through: the first function makes version 2 of version 1, and so on. Types that are not named have one
 * version. Never edited, only added to, with a file in test/golden/events/ for every version: the log keeps events as they were written.
 */
const UPCASTERS: Readonly<Partial<Record<EventType, readonly Upcaster[]>>> = {
  'client.enrolled': [withPool],
  'client.updated': [withPool],
};

/** The version that this build writes of a type. */
export function currentVersion(type: EventType): number {
  return (UPCASTERS[type]?.length ?? 0) + 1;
}

/** Data of any version up to the current one, as the current version has it. */
export function upcast(type: EventType, version: number, data: object): object {
  return (UPCASTERS[type] ?? []).slice(version - 1).reduce((older, step) => step(older), data);
}
