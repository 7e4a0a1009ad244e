import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import {
  type Decided,
  DecisionConflictError,
  type DecisionContext,
  decideInTransaction,
} from '../leader/decide-in-transaction.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { type ClientAggregate, type ClientCommand, decideClient, evolveClient } from './client-aggregate.ts';
import { createClientToken, hashClientToken } from './client-token.ts';

/** Random part of an id that the control plane chooses (ours). */
const GENERATED_ID_BYTES = 6;

export interface Client {
  readonly id: string;
  readonly name: string;
  readonly state: 'active' | 'revoked';
  readonly enrolledAt: Date | null;
  readonly updatedAt: Date | null;
  readonly revokedAt: Date | null;
}

export interface ClientServiceOptions extends DecisionContext {
  /** Called after each commit that changed a client's credential. */
  readonly onCredentialChange: (clientId: string) => void;
}

type DecidingTerm = Pick<Term, 'ownerEpoch'>;

/** Enrols, names and revokes clients. Every change is one decision in one transaction. */
export class ClientService {
  private readonly options: ClientServiceOptions;

  constructor(options: ClientServiceOptions) {
    this.options = options;
  }

  /** Enrols a client and returns its token, which is stored nowhere. Throws ClientCommandError. */
  async enrol(
    term: DecidingTerm,
    request: { readonly id?: string | undefined; readonly name?: string | undefined; readonly actor: string },
  ): Promise<{ id: string; name: string; token: string }> {
    const id = request.id ?? `client-${randomBytes(GENERATED_ID_BYTES).toString('hex')}`;
    const name = request.name ?? id;
    const token = createClientToken();
    await this.execute(
      term,
      id,
      (now) => ({ type: 'enrol', name, pool: DEFAULT_POOL, actor: request.actor, now }),
      hashClientToken(token),
    );
    return { id, name, token };
  }

  rename(term: DecidingTerm, id: string, name: string, actor: string): Promise<void> {
    return this.execute(term, id, (now) => ({ type: 'rename', name, actor, now }));
  }

  /** Revoking a revoked client changes nothing. Throws ClientCommandError for an unknown one. */
  revoke(term: DecidingTerm, id: string, actor: string): Promise<void> {
    return this.execute(term, id, (now) => ({ type: 'revoke', actor, now }));
  }

  async list(): Promise<Client[]> {
    const rows = await this.options.database.selectFrom('clients').selectAll().orderBy('client_id').execute();
    return rows.map(toClient);
  }

  async get(id: string): Promise<Client | undefined> {
    const row = await this.options.database
      .selectFrom('clients')
      .selectAll()
      .where('client_id', '=', id)
      .executeTakeFirst();
    return row && toClient(row);
  }

  private async execute(
    term: DecidingTerm,
    clientId: string,
    command: (now: number) => ClientCommand,
    tokenSha256?: string,
  ): Promise<void> {
    const changed = await decideInTransaction(this.options, term, async (trx, now): Promise<Decided<boolean>> => {
      const before = await load(trx, clientId);
      const event = decideClient(before, command(now));
      if (!event) return { events: [], result: false };
      const after = evolveClient(before, event);
      await save(trx, after, event.at, tokenSha256);
      const aggregate = { name: `client/${clientId}`, version: after.version };
      return { events: [{ event, aggregate }], result: true };
    });
    if (changed) this.options.onCredentialChange(clientId);
  }
}

async function load(trx: DatabaseTransaction, clientId: string): Promise<ClientAggregate> {
  const { rows } = await sql<{ version: number; pool: string; state: 'active' | 'revoked' }>`
    SELECT version, pool, state FROM client_credentials WHERE client_id = ${clientId}`.execute(trx);
  const [row] = rows;
  return row
    ? { clientId, version: row.version, pool: row.pool, state: { status: row.state } }
    : { clientId, version: 0, pool: DEFAULT_POOL, state: { status: 'unknown' } };
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
  state: 'active' | 'revoked';
  enrolled_at: Date | null;
  updated_at: Date | null;
  revoked_at: Date | null;
}): Client {
  return {
    id: row.client_id,
    name: row.name ?? row.client_id,
    state: row.state,
    enrolledAt: row.enrolled_at,
    updatedAt: row.updated_at,
    revokedAt: row.revoked_at,
  };
}
