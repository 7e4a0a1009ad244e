import Type from 'typebox';
import { ClientId } from '../../shared/events/event-schema.ts';
import type { Client, ClientService } from '../clients/client-service.ts';
import type { Term } from '../storage/term.ts';
import { actorOf } from './authenticate.ts';
import { freeText } from './free-text.ts';
import { leading } from './leading.ts';
import { PageLimit, pageOf, parseLimit } from './page-limit.ts';
import { HttpError } from './problem.ts';
import type { Api } from './server.ts';

const Name = freeText(200, 1);
/** Its name is looked up among those that there are, so any text will do. */
const Pool = freeText(200);
const Params = Type.Object({ id: freeText(200) });
const Enrolment = Type.Object(
  { id: Type.Optional(ClientId), name: Type.Optional(Name), pool: Type.Optional(Pool) },
  { additionalProperties: false },
);
/** Checked one by one, for answers that say what is wrong with which. */
const Addresses = Type.Object(
  {
    addresses: Type.Array(Type.String({ description: 'an address, e.g. "10.99.255.7"' }), {
      maxItems: 16,
      description: 'a list of at most one address of each family, e.g. ["10.99.255.7"]',
    }),
  },
  { additionalProperties: false },
);
const ListQuery = Type.Object(
  { limit: PageLimit, after: Type.Optional(freeText(200)) },
  { additionalProperties: false },
);
const Change = Type.Object({ name: Type.Optional(Name), pool: Type.Optional(Pool) }, { additionalProperties: false });

/** Clients: enrol, list, get, change, give addresses of their own, revoke. Changes need the leader; what they return is committed. */
export function addClientRoutes(app: Api, clients: ClientService, currentTerm: () => Term | undefined): void {
  app.post('/v1/clients', { schema: { body: Enrolment } }, async (request, reply) => {
    const { id, name, pool } = request.body;
    const enrolled = await clients.enrol(leading(currentTerm()), { id, name, pool, actor: actorOf(request) });
    reply.code(201).header('location', `/v1/clients/${enrolled.id}`).header('cache-control', 'no-store');
    return enrolled;
  });

  app.get('/v1/clients', { schema: { querystring: ListQuery } }, async ({ query }) => {
    const limit = parseLimit(query.limit);
    const { page, next } = pageOf(await clients.list({ limit: limit + 1, after: query.after }), limit);
    return { clients: page.map(toJson), next };
  });

  app.get('/v1/clients/:id', { schema: { params: Params } }, async (request) =>
    toJson(await existing(clients, request.params.id)),
  );

  app.patch('/v1/clients/:id', { schema: { params: Params, body: Change } }, async (request) => {
    const { name, pool } = request.body;
    if (name === undefined && pool === undefined) {
      throw new HttpError(400, 'INVALID_REQUEST', 'body: name, pool or both are required', { field: 'name' });
    }
    await clients.update(leading(currentTerm()), request.params.id, { name, pool }, actorOf(request));
    return toJson(await existing(clients, request.params.id));
  });

  app.put('/v1/clients/:id/addresses', { schema: { params: Params, body: Addresses } }, async (request) => {
    const { id } = request.params;
    await clients.setAddresses(leading(currentTerm()), id, request.body.addresses, actorOf(request));
    return toJson(await existing(clients, id));
  });

  app.delete('/v1/clients/:id', { schema: { params: Params } }, async (request) => {
    await clients.revoke(leading(currentTerm()), request.params.id, actorOf(request));
    return toJson(await existing(clients, request.params.id));
  });
}

async function existing(clients: ClientService, id: string): Promise<Client> {
  const client = await clients.get(id);
  if (!client) throw new HttpError(404, 'CLIENT_UNKNOWN', `client "${id}" is not enrolled`, { field: 'id' });
  return client;
}

function toJson(client: Client) {
  return {
    id: client.id,
    name: client.name,
    pool: client.pool,
    addresses: client.addresses,
    state: client.state,
    enrolledAt: client.enrolledAt?.toISOString() ?? null,
    updatedAt: client.updatedAt?.toISOString() ?? null,
    revokedAt: client.revokedAt?.toISOString() ?? null,
  };
}
