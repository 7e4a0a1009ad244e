import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import {
  type Decided,
  DecisionConflictError,
  type DecisionContext,
  decideInTransaction,
} from '../leader/decide-in-transaction.ts';
import { checkPoolChoice } from '../pools/check-pool-choice.ts';
import { loadClaims, saveStaticAddresses } from '../static-addresses/static-address-store.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { type ClientPool, checkStaticAddress, readAddresses } from './check-static-addresses.ts';
import {
  type ClientAggregate,
  type ClientCommand,
  decideClient,
  evolveClient,
  refuseInactive,
} from './client-aggregate.ts';
import { createClientToken, hashClientToken } from './client-token.ts';

/** Random part of an id that the control plane chooses (ours). */
const GENERATED_ID_BYTES = 6;

export interface Client {
  readonly id: string;
  readonly name: string;
  readonly pool: string;
  readonly addresses: readonly string[];
  readonly state: 'active' | 'revoked';
  readonly enrolledAt: Date | null;
  readonly updatedAt: Date | null;
  readonly revokedAt: Date | null;
}

export interface ClientServiceOptions extends DecisionContext {
  /** Called after each commit that changed a client's credential. */
  readonly onCredentialChange: (clientId: string) => void;
  /** The pool of that name as it is now; without networks where there is none. */
  readonly loadPool: (trx: DatabaseTransaction, name: string) => Promise<ClientPool>;
}

type DecidingTerm = Pick<Term, 'ownerEpoch'>;

/** Enrols, changes and revokes clients. Every change is one decision in one transaction. */
export class ClientService {
  private readonly options: ClientServiceOptions;

  constructor(options: ClientServiceOptions) {
    this.options = options;
  }

  /** Enrols a client and returns its token, which is stored nowhere. Throws ClientCommandError, PoolChoiceError. */
  async enrol(
    term: DecidingTerm,
    request: {
      readonly id?: string | undefined;
      readonly name?: string | undefined;
      readonly pool?: string | undefined;
      readonly actor: string;
    },
  ): Promise<{ id: string; name: string; pool: string; token: string }> {
    const id = request.id ?? `client-${randomBytes(GENERATED_ID_BYTES).toString('hex')}`;
    const name = request.name ?? id;
    const token = createClientToken();
    const { pool = DEFAULT_POOL, actor } = request;
    await this.execute(
      term,
      id,
      async (now, _client, trx) => {
        await checkPoolChoice(trx, pool);
        return { type: 'enrol', name, pool, actor, now };
      },
      hashClientToken(token),
    );
    return { id, name, pool, token };
  }

  /**
   * Gives a client another name, another pool, or both. Open tunnels keep their addresses, the next ones are of the new pool. Throws
   * ClientCommandError, PoolChoiceError, and StaticAddressError where it has addresses of its own that are not of that pool.
   */
  update(
    term: DecidingTerm,
    id: string,
    change: { readonly name?: string | undefined; readonly pool?: string | undefined },
    actor: string,
  ): Promise<void> {
    return this.execute(term, id, async (now, client, trx) => {
      if (change.pool !== undefined && change.pool !== client.pool) {
        await checkPoolChoice(trx, change.pool);
        await this.checkAddresses(trx, client, change.pool, client.addresses);
      }
      const name = change.name ?? (await nameOf(trx, id));
      return { type: 'update', name, pool: change.pool ?? client.pool, actor, now };
    });
  }

  /**
   * Gives a client addresses of its own, instead of those that it had. Throws ClientCommandError and StaticAddressError.
   */
  setAddresses(term: DecidingTerm, id: string, wanted: readonly string[], actor: string): Promise<void> {
    return this.execute(term, id, async (now, client, trx) => {
      refuseInactive(client);
      const addresses = readAddresses(wanted);
      const added = addresses.filter((address) => !client.addresses.includes(address));
      await this.checkAddresses(trx, client, client.pool, added);
      return { type: 'setAddresses', addresses, actor, now };
    });
  }

  /** Revoking a revoked client changes nothing. Throws ClientCommandError for an unknown one. */
  revoke(term: DecidingTerm, id: string, actor: string): Promise<void> {
    return this.execute(term, id, (now) => ({ type: 'revoke', actor, now }));
  }

  /** The first `limit` clients by id, of those behind `after`. */
  async list({ limit, after }: { readonly limit: number; readonly after?: string | undefined }): Promise<Client[]> {
    let query = this.options.database.selectFrom('clients').selectAll().orderBy('client_id').limit(limit);
    if (after !== undefined) query = query.where('client_id', '>', after);
    return (await query.execute()).map(toClient);
  }

  async get(id: string): Promise<Client | undefined> {
    const row = await this.options.database
      .selectFrom('clients')
      .selectAll()
      .where('client_id', '=', id)
      .executeTakeFirst();
    return row && toClient(row);
  }

  /** Whether addresses can be the client's own in a pool. Throws StaticAddressError. */
  private async checkAddresses(
    trx: DatabaseTransaction,
    { clientId }: ClientAggregate,
    poolName: string,
    addresses: readonly string[],
  ): Promise<void> {
    if (addresses.length === 0) return;
    const pool = await this.options.loadPool(trx, poolName);
    const claims = await loadClaims(trx, addresses);
    for (const address of addresses) checkStaticAddress(address, clientId, pool, claims);
  }

  private async execute(
    term: DecidingTerm,
    clientId: string,
    command: (now: number, client: ClientAggregate, trx: DatabaseTransaction) => ClientCommand | Promise<ClientCommand>,
    tokenSha256?: string,
  ): Promise<void> {
    const changed = await decideInTransaction(this.options, term, async (trx, now): Promise<Decided<boolean>> => {
      const before = await load(trx, clientId);
      const event = decideClient(before, await command(now, before, trx));
      if (!event) return { events: [], result: false };
      const after = evolveClient(before, event);
      await save(trx, after, event.at, tokenSha256);
      if (after.addresses !== before.addresses)
        await saveStaticAddresses(trx, after, await this.options.loadPool(trx, after.pool), event.at);
      const aggregate = { name: `client/${clientId}`, version: after.version };
      return { events: [{ event, aggregate }], result: true };
    });
    if (changed) this.options.onCredentialChange(clientId);
  }
}

async function nameOf(trx: DatabaseTransaction, clientId: string): Promise<string> {
  const row = await trx.selectFrom('clients').select('name').where('client_id', '=', clientId).executeTakeFirst();
  return row?.name ?? clientId;
}

async function load(trx: DatabaseTransaction, clientId: string): Promise<ClientAggregate> {
  const { rows } = await sql<{ version: number; pool: string; state: 'active' | 'revoked'; addresses: string[] }>`
    SELECT version, pool, state,
      ARRAY(SELECT host(address) FROM static_addresses s WHERE s.client_id = c.client_id) AS addresses
    FROM client_credentials c WHERE client_id = ${clientId}`.execute(trx);
  const [row] = rows;
  return row
    ? { clientId, version: row.version, pool: row.pool, addresses: row.addresses, state: { status: row.state } }
    : { clientId, version: 0, pool: DEFAULT_POOL, addresses: [], state: { status: 'unknown' } };
}

/** Without a new hash the present one stays: a revoked token remains known, so that it can be told from a wrong one. */
async function save(
  trx: DatabaseTransaction,
  client: ClientAggregate,
  at: string,
  tokenSha256: string | undefined,
): Promise<void> {
  const { clientId, version, pool, state } = client;
  const result =
    version === 1
      ? await sql`
          INSERT INTO client_credentials (client_id, version, state, pool, token_sha256, updated_at)
          VALUES (${clientId}, ${version}, ${state.status}, ${pool}, ${tokenSha256}, ${at})`.execute(trx)
      : await sql`
          UPDATE client_credentials SET version = ${version}, state = ${state.status}, pool = ${pool}, updated_at = ${at},
            token_sha256 = coalesce(${tokenSha256 ?? null}, token_sha256)
          WHERE client_id = ${clientId} AND version = ${version - 1}`.execute(trx);
  if (result.numAffectedRows !== 1n) throw new DecisionConflictError(`client ${clientId}`);
}

function toClient(row: {
  client_id: string;
  name: string | null;
  pool: string;
  addresses: string[];
  state: 'active' | 'revoked';
  enrolled_at: Date | null;
  updated_at: Date | null;
  revoked_at: Date | null;
}): Client {
  return {
    id: row.client_id,
    name: row.name ?? row.client_id,
    pool: row.pool,
    addresses: row.addresses,
    state: row.state,
    enrolledAt: row.enrolled_at,
    updatedAt: row.updated_at,
    revokedAt: row.revoked_at,
  };
}
