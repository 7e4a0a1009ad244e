import type { VpnEvent } from '../../shared/events/envelope.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';

/** What was changed: the first part of the event's type, and the id that its data has for that. */
export interface AdminSubject {
  readonly kind: string;
  readonly id: string;
}

interface AdminEvent {
  readonly position: number;
  readonly event: VpnEvent;
  readonly actor: string;
  readonly subject: AdminSubject;
  readonly change: Readonly<Record<string, unknown>>;
}

const COLUMNS: Readonly<Record<string, Column<AdminEvent>>> = {
  position: { type: 'bigint', value: (row) => row.position },
  at: { type: 'timestamptz', value: ({ event }) => event.at },
  actor: { type: 'text', value: (row) => row.actor },
  type: { type: 'text', value: ({ event }) => event.type },
  subject_kind: { type: 'text', value: ({ subject }) => subject.kind },
  subject_id: { type: 'text', value: ({ subject }) => subject.id },
  change: { type: 'jsonb', value: (row) => JSON.stringify(row.change) },
};

const ID_TYPES: ReadonlySet<string> = new Set(['string', 'number']);

/** Projects who changed what. Takes every event that has an actor, whatever its type. */
export class AdminEventsProjection {
  private readonly rows: AdminEvent[] = [];

  apply({ position, event }: LogEntry): void {
    const row = adminEventOf(event);
    if (row) this.rows.push({ position, event, ...row });
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    await insertRows(trx, 'admin_events', COLUMNS, this.rows);
  }
}

/**
 * Who did what to whom; undefined for an event without an actor. `client.updated` is about `data.clientId`, `pool.added`
 * about `data.pool` or `data.name`, `dead_letter.applied` about `data.id`.
 */
export function adminEventOf(event: VpnEvent): Pick<AdminEvent, 'actor' | 'subject' | 'change'> | undefined {
  const data: Readonly<Record<string, unknown>> = event.data;
  const { actor, ...rest } = data;
  if (typeof actor !== 'string') return undefined;
  const [kind = event.type] = event.type.split('.');
  const key = [`${kind}Id`, kind, 'name', 'id'].find((name) => ID_TYPES.has(typeof rest[name]));
  if (key === undefined) return { actor, subject: { kind, id: '' }, change: rest };
  const { [key]: id, ...change } = rest;
  return { actor, subject: { kind, id: String(id) }, change };
}
