import Type from 'typebox';
import { ConnectionId } from '../../shared/events/event-schema.ts';
import type { ProjectionStatus } from '../metrics/projection-status.ts';
import type { Database } from '../storage/database.ts';
import { freeText } from './free-text.ts';
import { listConnections } from './list-connections.ts';
import { listNodes } from './list-nodes.ts';
import { PageLimit, pageOf, parseLimit } from './page-limit.ts';
import type { Api } from './server.ts';

const ConnectionQuery = Type.Object(
  {
    state: Type.Optional(Type.Enum(['open', 'presumed', 'closed'])),
    clientId: Type.Optional(freeText(200)),
    nodeId: Type.Optional(freeText(200)),
    limit: PageLimit,
    after: Type.Optional(ConnectionId),
  },
  { additionalProperties: false },
);

export interface ClusterRoutesOptions {
  readonly database: Database;
  readonly projectionStatus: () => Promise<ProjectionStatus>;
  readonly isLeader: () => boolean;
}

/** What the cluster looks like: nodes, connections, and how far the projection is. Every replica answers. */
export function addClusterRoutes(app: Api, options: ClusterRoutesOptions): void {
  const { database } = options;

  app.get('/v1/nodes', async () => ({ nodes: await listNodes(database) }));

  app.get('/v1/connections', { schema: { querystring: ConnectionQuery } }, async (request) => {
    const { after, ...query } = request.query;
    const limit = parseLimit(query.limit);
    const { page, next } = pageOf(await listConnections(database, { ...query, limit: limit + 1 }, after), limit);
    return { connections: page, next };
  });

  app.get('/v1/projection', async () => ({ ...(await options.projectionStatus()), leader: options.isLeader() }));
}
