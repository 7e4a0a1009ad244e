import type { VpnEvent } from '../../shared/events/envelope.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite } from '../storage/insert-rows.ts';
import type { ClientsTable } from '../storage/tables.ts';

export interface Client {
  readonly clientId: string;
  readonly name: string | null;
  readonly pool: string;
  readonly addresses: readonly string[];
  readonly state: ClientsTable['state'];
  readonly enrolledAt: string | null;
  readonly updatedAt: string | null;
  readonly revokedAt: string | null;
}

type ClientEvent = VpnEvent<'client.enrolled' | 'client.updated' | 'client.addresses_set' | 'client.revoked'>;

/** The client after one more of its events. */
export function evolveClient(before: Client | undefined, event: ClientEvent): Client {
  const { clientId } = event.data;
  const client: Client = before ?? {
    clientId,
    name: null,
    pool: DEFAULT_POOL,
    addresses: [],
    state: 'active',
    enrolledAt: null,
    updatedAt: null,
    revokedAt: null,
  };
  const updatedAt = event.at;
  switch (event.type) {
    case 'client.enrolled': {
      const { name, pool } = event.data;
      return { ...client, name, pool, state: 'active', enrolledAt: event.at, updatedAt, revokedAt: null };
    }
    case 'client.updated': {
      const { name, pool } = event.data;
      return { ...client, name, pool, updatedAt };
    }
    case 'client.addresses_set':
      return { ...client, addresses: event.data.addresses, updatedAt };
    case 'client.revoked':
      return { ...client, addresses: [], state: 'revoked', updatedAt, revokedAt: event.at };
    default:
      return event satisfies never;
  }
}

const COLUMNS: Readonly<Record<string, Column<Client>>> = {
  client_id: { type: 'text', value: (row) => row.clientId },
  name: { type: 'text', value: (row) => row.name },
  pool: { type: 'text', value: (row) => row.pool },
  addresses: { type: 'inet[]', value: (row) => `{${row.addresses.join(',')}}` },
  state: { type: 'text', value: (row) => row.state },
  enrolled_at: { type: 'timestamptz', value: (row) => row.enrolledAt },
  updated_at: { type: 'timestamptz', value: (row) => row.updatedAt },
  revoked_at: { type: 'timestamptz', value: (row) => row.revokedAt },
};

/** Projects who is enrolled. Takes the client events. */
export class ClientsProjection {
  private readonly rows = new Map<string, Client>();
  private readonly dirty = new Set<string>();

  static async load(trx: DatabaseTransaction, entries: readonly LogEntry[]): Promise<ClientsProjection> {
    const projection = new ClientsProjection();
    const ids = new Set<string>();
    for (const { event } of entries) if (isClientEvent(event)) ids.add(event.data.clientId);
    if (ids.size === 0) return projection;
    const rows = await trx
      .selectFrom('clients')
      .selectAll()
      .where('client_id', 'in', [...ids])
      .execute();
    for (const row of rows) {
      projection.rows.set(row.client_id, {
        clientId: row.client_id,
        name: row.name,
        pool: row.pool,
        addresses: row.addresses,
        state: row.state,
        enrolledAt: row.enrolled_at?.toISOString() ?? null,
        updatedAt: row.updated_at?.toISOString() ?? null,
        revokedAt: row.revoked_at?.toISOString() ?? null,
      });
    }
    return projection;
  }

  apply({ event }: LogEntry): void {
    if (!isClientEvent(event)) return;
    const { clientId } = event.data;
    this.rows.set(clientId, evolveClient(this.rows.get(clientId), event));
    this.dirty.add(clientId);
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const rows = [...this.dirty].map((id) => this.rows.get(id)!);
    await insertRows(trx, 'clients', COLUMNS, rows, overwrite(['client_id'], COLUMNS));
  }
}

const CLIENT_EVENTS: ReadonlySet<string> = new Set<ClientEvent['type']>([
  'client.enrolled',
  'client.updated',
  'client.addresses_set',
  'client.revoked',
]);

function isClientEvent(event: VpnEvent): event is ClientEvent {
  return CLIENT_EVENTS.has(event.type);
}
