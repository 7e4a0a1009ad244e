import Type from 'typebox';
import type { ProjectionStatus } from '../metrics/projection-status.ts';
import type { Database } from '../storage/database.ts';
import { freeText } from './free-text.ts';
import { listConnections } from './list-connections.ts';
import { listNodes } from './list-nodes.ts';
import type { Api } from './server.ts';

const DEFAULT_CONNECTIONS = 100;
const ConnectionQuery = Type.Object(
  {
    state: Type.Optional(Type.Union([Type.Literal('open'), Type.Literal('presumed'), Type.Literal('closed')])),
    clientId: Type.Optional(freeText(200)),
    nodeId: Type.Optional(freeText(200)),
    limit: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,3}$', description: 'a whole number from 1 to 9999' })),
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
    const { limit, ...filter } = request.query;
    const connections = await listConnections(database, { ...filter, limit: Number(limit ?? DEFAULT_CONNECTIONS) });
    return { connections };
  });

  app.get('/v1/projection', async () => ({ ...(await options.projectionStatus()), leader: options.isLeader() }));
}
