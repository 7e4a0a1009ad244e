import { mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import pg from 'pg';
import type { TransportChoice } from '../../data-plane/client/transport-race.ts';
import { createAuthority } from './certificate.ts';
import type { ManagedProcess } from './child-process.ts';
import { clientTokens } from './client-tokens.ts';
import { type ClusterClient, type ClusterNode, createClient, createControlPlane, createNode } from './cluster-parts.ts';
import { preferredPort } from './free-port.ts';
import { HttpStatusError, httpRequest, scrape } from './http-client.ts';
import { discharge, entrust, type Leftover, ownIdentity } from './janitor.ts';
import { type NatsServer, startNatsServer } from './nats-server.ts';
import { buildTopology, cutOff, restore } from './netns-topology.ts';
import { type PostgresServer, startPostgres } from './postgres.ts';
import { identifyProcess } from './process-identity.ts';
import { sumOf } from './prometheus-text.ts';
import { secretInFile } from './secret-file.ts';
import type { Service } from './service.ts';
import { claimSlot, recordInSlot, releaseSlot } from './slots.ts';
import { planTopology, type TopologyPlan } from './topology-plan.ts';
import { waitFor } from './wait-for.ts';

const CONTROL_PLANE_PORT = 9090;
const NATS_PORT = 4222;
const POSTGRES_PORT = 54320;
const API_READY_TIMEOUT_MS = 30_000;

export interface ClusterOptions {
  /** Everything the cluster keeps is below; what is there already is picked up again. */
  readonly directory: string;
  /** Default `node-a`, `node-b`; at most 4. */
  readonly nodes?: readonly string[];
  /** Default `client-1` to `client-3`; at most 9. Client i uses node i modulo the number of nodes. */
  readonly clients?: readonly string[];
  /** Those of `clients` whose tunnels are opened by the start; default all. The others are enrolled only. */
  readonly connect?: readonly string[];
  /** What the tunnels of these clients run over; of the others HTTP/3. */
  readonly transports?: Readonly<Record<string, TransportChoice>>;
  /** More variables for all nodes and for the control plane. */
  readonly nodeEnv?: Readonly<Record<string, string>>;
  readonly controlPlaneEnv?: Readonly<Record<string, string>>;
  /** Told what is being done, a line at a time. */
  readonly progress?: (line: string) => void;
  /** Breaks the start off; what was started until then is stopped. */
  readonly signal?: AbortSignal;
}

/** A whole cluster on this machine, of the real processes; the launcher and the end-to-end tests act on it by this. */
export interface Cluster {
  readonly directory: string;
  readonly plan: TopologyPlan;
  readonly adminToken: string;
  readonly controlPlaneUrl: string;
  readonly databaseUrl: string;
  /** The control plane's; each node has a user of its own. */
  readonly natsUrl: string;
  readonly controlPlane: Service;
  readonly nodes: readonly ClusterNode[];
  readonly clients: readonly ClusterClient[];
  node(id: string): ClusterNode;
  client(id: string): ClusterClient;
  /** A request to the API with the admin token; throws HttpStatusError when the status is not 2xx. */
  api<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  sql<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  nats(): NatsServer;
  postgres(): PostgresServer;
  restartNats(): Promise<void>;
  restartPostgres(): Promise<void>;
  /** What the node sends to NATS and to the launcher is dropped until `rejoinNats`; its tunnels are untouched. */
  cutFromNats(nodeId: string): Promise<void>;
  rejoinNats(nodeId: string): Promise<void>;
  /** Waits until every event in the running nodes' spools is in Postgres. */
  untilProjected(timeoutMs: number): Promise<void>;
  /** Ends everything, in order, and removes the network; the directory stays. Safe to call twice. */
  stop(): Promise<void>;
}

/** Starts a cluster and returns when the tunnels of `connect` are open. On an error or abort all is stopped again. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const ends: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    // Last come, first gone; one that fails must not keep the others.
    const errors: unknown[] = [];
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end().catch((error) => errors.push(error));
    if (errors.length > 0) throw new AggregateError(errors, `the cluster did not stop cleanly: ${errors.join('; ')}`);
  };
  const aborted = new Promise<never>((_, reject) => {
    options.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true });
  });
  try {
    return await Promise.race([start(options, ends, stop), aborted]);
  } catch (error) {
    await stop().catch(() => undefined);
    throw error;
  }
}

async function start(
  options: ClusterOptions,
  ends: (() => Promise<unknown>)[],
  stop: () => Promise<void>,
): Promise<Cluster> {
  const directory = resolve(options.directory);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const progress = (line: string) => {
    options.signal?.throwIfAborted();
    options.progress?.(line);
  };
  const clientIds = options.clients ?? ['client-1', 'client-2', 'client-3'];

  const slot = await claimSlot();
  const leftover: Leftover = { kind: 'slot', slot, owner: ownIdentity() };
  entrust(leftover);
  ends.push(async () => {
    await releaseSlot(slot, ownIdentity());
    discharge(leftover);
  });
  const onStart = (process: ManagedProcess) => {
    const identity = identifyProcess(process.pid);
    if (identity !== undefined) recordInSlot(slot, identity);
  };
  const plan = planTopology(slot, { nodes: options.nodes ?? ['node-a', 'node-b'], clients: clientIds });
  progress(`network: ${plan.rootAddress}/28 in slot ${slot}, namespaces ${plan.hubNamespace.replace(/hub$/, '*')}`);
  await buildTopology(plan);

  progress('nats-server and Postgres');
  let nats = await startNatsServer({
    directory: join(directory, 'nats'),
    host: plan.rootAddress,
    port: await preferredPort(plan.rootAddress, NATS_PORT),
    nodes: plan.nodes.map(({ id }) => id),
  });
  onStart(nats.process);
  ends.push(() => nats.stop());
  let postgres = await startPostgres({
    directory: join(directory, 'postgres'),
    port: await preferredPort('127.0.0.1', POSTGRES_PORT + slot),
  });
  onStart(postgres.process);
  ends.push(() => postgres.stop());

  progress('control plane');
  const adminToken = secretInFile(join(directory, 'admin-token'));
  const common = { directory, plan, onStart };
  const { service: controlPlane, url: controlPlaneUrl } = createControlPlane({
    ...common,
    port: await preferredPort(plan.rootAddress, CONTROL_PLANE_PORT),
    env: {
      DATABASE_URL: postgres.url,
      NATS_URL: nats.url,
      ADMIN_TOKEN: adminToken,
      ...options.controlPlaneEnv,
    },
  });
  ends.push(() => controlPlane.stop());
  await controlPlane.start();

  progress(`nodes ${plan.nodes.map((place) => place.id).join(', ')}`);
  const authority = await createAuthority(join(directory, 'pki'));
  const env = { ...options.nodeEnv };
  const nodes = await Promise.all(
    plan.nodes.map((place) => createNode({ ...common, place, authority, natsUrl: nats.nodeUrl(place.id), env })),
  );
  for (const node of nodes) ends.push(() => Promise.all([node.service.stop(), node.server.stop()]));
  await Promise.all(nodes.flatMap((node) => [node.service.start(), node.server.start()]));

  const api = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const answer = await httpRequest(method, `${controlPlaneUrl}${path}`, { token: adminToken, body });
    if (answer.status < 200 || answer.status > 299) throw new HttpStatusError(method, path, answer);
    return (answer.body === '' ? undefined : JSON.parse(answer.body)) as T;
  };
  if (clientIds.length > 0) progress(`enrolment of ${clientIds.join(', ')}`);
  const tokens = await clientTokens(api, join(directory, 'clients'), clientIds);
  const clients = plan.clients.map((place, i) => {
    // The status of an earlier run must not be taken for that of this one.
    for (const file of ['status.json', 'traffic.json'])
      rmSync(join(directory, 'clients', place.id, file), { force: true });
    const node = nodes[i % nodes.length] as ClusterNode;
    const transport = options.transports?.[place.id] ?? 'http3';
    return createClient({ ...common, place, node, authority, token: tokens.get(place.id) as string, transport });
  });
  ends.push(() => Promise.all(clients.map((client) => client.service.stop())));
  ends.push(() => Promise.all(clients.map((client) => client.stopTraffic())));
  const connecting = clients.filter((client) => options.connect?.includes(client.id) ?? true);
  if (connecting.length > 0) progress(`tunnels of ${connecting.map((client) => client.id).join(', ')}`);
  await Promise.all(connecting.map((client) => client.service.start()));

  const find = <T extends { readonly id: string }>(all: readonly T[], id: string): T => {
    const found = all.find((one) => one.id === id);
    if (found === undefined) throw new Error(`no ${id} in this cluster: ${all.map((one) => one.id).join(', ')}`);
    return found;
  };
  const placeOf = (id: string) => find(nodes, id).place.namespace;
  const cluster: Cluster = {
    directory,
    plan,
    adminToken,
    controlPlaneUrl,
    databaseUrl: postgres.url,
    natsUrl: nats.url,
    controlPlane,
    nodes,
    clients,
    node: (id) => find(nodes, id),
    client: (id) => find(clients, id),
    api,
    sql: (text, values) => query(postgres.url, text, values ?? []),
    nats: () => nats,
    postgres: () => postgres,
    restartNats: async () => {
      nats = await nats.restart();
      onStart(nats.process);
    },
    restartPostgres: async () => {
      postgres = await postgres.restart();
      onStart(postgres.process);
    },
    cutFromNats: (id) => cutOff(placeOf(id), plan.rootAddress),
    rejoinNats: (id) => restore(placeOf(id), plan.rootAddress),
    untilProjected: (timeoutMs) => untilProjected(nodes, timeoutMs),
    stop,
  };
  await waitFor(async () => (await openConnections(cluster)) >= connecting.length, {
    timeoutMs: API_READY_TIMEOUT_MS,
    what: `${connecting.length} open connections in the control plane`,
  });
  return cluster;
}

async function openConnections(cluster: Cluster): Promise<number> {
  const { connections } = await cluster.api<{ connections: unknown[] }>('GET', '/v1/connections?state=open');
  return connections.length;
}

async function untilProjected(nodes: readonly ClusterNode[], timeoutMs: number): Promise<void> {
  for (const node of nodes.filter(({ service }) => service.running())) {
    await waitFor(
      async () => {
        const samples = await scrape(node.metricsUrl);
        const depth = samples.find(({ name }) => name === 'masque_vpn_node_spool_depth');
        if (depth === undefined) throw new Error(`${node.metricsUrl} has no masque_vpn_node_spool_depth`);
        return sumOf(samples, depth.name) === 0;
      },
      { timeoutMs, what: `an empty spool of ${node.id}` },
    );
  }
}

async function query<Row extends object>(url: string, text: string, values: readonly unknown[]): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(text, [...values])).rows as Row[];
  } finally {
    await client.end();
  }
}
