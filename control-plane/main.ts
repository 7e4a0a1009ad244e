import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { NatsConnection } from 'nats';
import { parseArguments } from '../shared/config/parse-arguments.ts';
import { ConfigError, describeVariables, EXIT_BAD_CONFIG, formatHostPort } from '../shared/config/parse-config.ts';
import { describeError } from '../shared/errors.ts';
import { listenProblem } from '../shared/listen-problem.ts';
import { createLogger } from '../shared/log/logger.ts';
import { addClientRoutes } from './api/client-routes.ts';
import { addClusterRoutes } from './api/cluster-routes.ts';
import { addHealthRoutes } from './api/health-routes.ts';
import { addPoolRoutes } from './api/pool-routes.ts';
import { createApi } from './api/server.ts';
import { ClientService } from './clients/client-service.ts';
import { adminTokensOf, type ControlPlaneConfig, controlPlaneVariables, parseControlPlaneConfig } from './config.ts';
import type { CredentialProjector } from './credentials/credential-projector.ts';
import { connectDependencies } from './leader/connect-dependencies.ts';
import { Leader } from './leader/leader.ts';
import type { LeaderService } from './leader/leader-service.ts';
import { createLeaderServices } from './leader/leader-services.ts';
import { createReadiness } from './leader/readiness.ts';
import { ControlMetrics } from './metrics/control-metrics.ts';
import { MetricsService } from './metrics/metrics-service.ts';
import { readProjectionStatus } from './metrics/projection-status.ts';
import { checkConfiguredPool } from './pools/configured-pool.ts';
import type { PoolLayout } from './pools/pool-aggregate.ts';
import { PoolService } from './pools/pool-service.ts';
import { loadActiveLayout } from './pools/pool-store.ts';
import type { PoolUpkeep } from './pools/pool-upkeep.ts';
import type { Projector } from './projector/projector.ts';
import { createDatabase, createPool } from './storage/database.ts';

/** How long the parts may take to end after SIGTERM (ours); then the process ends without them. */
const SHUTDOWN_DEADLINE_MS = 8_000;

const NATS_PATIENCE_MS = 1_500;

const USAGE = `usage: node control-plane/main.ts

The control plane of a masque-vpn cluster. It takes its configuration from the environment:

${describeVariables(controlPlaneVariables)}
`;

const config = readConfig();
if (config) await run(config);

function readConfig(): ControlPlaneConfig | undefined {
  try {
    if (parseArguments(process.argv.slice(2), {}) === undefined) {
      process.stdout.write(USAGE);
      return undefined;
    }
    return parseControlPlaneConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`masque-vpn control plane: ${error.message}; help: node control-plane/main.ts --help\n`);
    process.exitCode = EXIT_BAD_CONFIG;
    return undefined;
  }
}

async function run(config: ControlPlaneConfig): Promise<void> {
  const log = createLogger('control-plane', config.LOG_LEVEL);
  const stopping = new AbortController();
  const { signal } = stopping;
  const defaultPool: PoolLayout = {
    prefixes: config.POOLS,
    blockLength: { 4: config.BLOCK_PREFIX_V4, 6: config.BLOCK_PREFIX_V6 },
  };
  const incarnation = randomBytes(16).toString('hex');
  const applicationName = `masque-vpn control plane ${incarnation}`;
  const pool = createPool(config.DATABASE_URL, applicationName, (error) =>
    log.warn(`a connection to Postgres broke: ${describeError(error)}`),
  );
  const database = createDatabase(pool);
  const decisions = { database, incarnation };
  let nats: NatsConnection | undefined;
  let credentials: CredentialProjector | undefined;
  let projector: Projector | undefined;
  let upkeep: PoolUpkeep | undefined;

  // The services need NATS, which may come later; the leader starts when they are here.
  const services: LeaderService[] = [];
  const holder = `${hostname()}/${process.pid}/${incarnation.slice(0, 8)}`;
  const leader = new Leader({ databaseUrl: config.DATABASE_URL, holder, applicationName, services, log });
  const clients = new ClientService({
    ...decisions,
    onCredentialChange: (id) => credentials?.notify(id),
    loadPool: loadActiveLayout,
  });
  const control = new ControlMetrics();
  const projectionStatus = () => readProjectionStatus(database, nats);
  const metrics = new MetricsService({
    database,
    nats: () => nats,
    clockSkews: () => projector?.clockSkews ?? new Map(),
    clientLimit: config.METRICS_CLIENT_LIMIT,
    leadership: leader,
    control,
    log,
  });

  const api = createApi({ adminTokens: adminTokensOf(config), metrics: control, log });
  addHealthRoutes(
    api,
    createReadiness(database, () => nats, projectionStatus, leader),
    metrics,
  );
  addClientRoutes(api, clients, () => leader.currentTerm());
  addPoolRoutes(api, {
    database,
    pools: new PoolService(decisions),
    currentTerm: () => leader.currentTerm(),
    onRetiring: () => upkeep?.notify(),
  });
  addClusterRoutes(api, { database, projectionStatus, isLeader: () => leader.isConfirmed() });
  try {
    const { host, port } = config.HTTP_LISTEN;
    log.info({ url: await api.listen({ host, port }) }, 'API is listening');
  } catch (error) {
    log.fatal(`cannot listen on ${formatHostPort(config.HTTP_LISTEN)} (HTTP_LISTEN): ${listenProblem(error)}`);
    process.exitCode = 1;
    await pool.end();
    return;
  }

  const leading = (async () => {
    const check = () => checkConfiguredPool(database, defaultPool);
    nats = await connectDependencies({ database, natsUrl: config.NATS_URL, log, signal, check });
    const { LEASE_SECONDS: leaseSeconds, STATIC_LEASE_SECONDS: staticLeaseSeconds } = config;
    const layout = defaultPool;
    const retention = { eventsDays: config.EVENTS_RETENTION_DAYS, trafficDays: config.TRAFFIC_RETENTION_DAYS };
    const leases = { leaseSeconds, staticLeaseSeconds };
    const created = createLeaderServices({ ...decisions, nats, layout, ...leases, retention, log });
    ({ credentials, projector, upkeep } = created);
    services.push(...created.services);
    await leader.run(signal);
  })();

  const shutDown = async (why: string) => {
    if (signal.aborted) return;
    log.info({ why }, 'shutting down');
    setTimeout(() => {
      log.error('some parts did not end in time');
      process.exit();
    }, SHUTDOWN_DEADLINE_MS).unref();
    stopping.abort();
    // What still waits for an answer of a NATS that is away would wait for its timeout.
    const impatience = setTimeout(() => void nats?.close(), NATS_PATIENCE_MS);
    await leading.catch(() => undefined);
    clearTimeout(impatience);
    await api.close();
    await nats?.close();
    await pool.end();
    log.info('stopped');
  };
  process.on('SIGTERM', () => void shutDown('SIGTERM'));
  process.on('SIGINT', () => void shutDown('SIGINT'));
  await leading.catch(async (error: unknown) => {
    if (signal.aborted) return;
    log.fatal(describeError(error));
    process.exitCode = error instanceof ConfigError ? EXIT_BAD_CONFIG : 1;
    await shutDown('error');
  });
}
