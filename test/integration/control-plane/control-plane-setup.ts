import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type NatsConnection } from 'nats';
import pg from 'pg';
import { freePort } from '../../../deploy/local/free-port.ts';
import { type NatsServer, startNatsServer } from '../../../deploy/local/nats-server.ts';
import { type PostgresServer, startPostgres } from '../../../deploy/local/postgres.ts';
import { createService, type Service } from '../../../deploy/local/service.ts';
import { encodeEvents, type NewEvent, type VpnEvent } from '../../../shared/events/envelope.ts';
import { currentVersion } from '../../../shared/events/event-versions.ts';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import { columnsOf } from '../../../shared/events/traffic-columns.ts';
import { presenceMessage, presenceSubject } from '../../../shared/nats/messages.ts';

export const ADMIN_TOKEN = 'test-admin-token-0123456789';
const READY_TIMEOUT_MS = 30_000;
const MAIN = join(import.meta.dirname, '../../../control-plane/main.ts');

export interface TestServers {
  readonly directory: string;
  /** To be replaced by who restarts it. */
  nats: NatsServer;
  readonly postgres: PostgresServer;
  /** As a client of its own. */
  readonly connection: NatsConnection;
  readonly sql: pg.Pool;
  stop(): Promise<void>;
}

/** A Postgres and a NATS of this test file alone; each of `nodes` has a user of its own. */
export async function startServers(nodes: readonly string[] = []): Promise<TestServers> {
  const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-'));
  const [nats, postgres] = await Promise.all([
    startNatsServer({ directory: join(directory, 'nats'), nodes }),
    startPostgres({ directory: join(directory, 'postgres'), settings: { fsync: 'off' } }),
  ]);
  const connection = await connectTo(nats.url);
  const sql = new pg.Pool({ connectionString: postgres.url });
  sql.on('error', () => undefined);
  const servers: TestServers = {
    directory,
    nats,
    postgres,
    connection,
    sql,
    async stop() {
      await connection.close();
      await sql.end();
      await Promise.all([servers.nats.stop(), postgres.stop()]);
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return servers;
}

export function connectTo(natsUrl: string): Promise<NatsConnection> {
  const { host, username, password } = new URL(natsUrl);
  return connect({ servers: host, user: username, pass: password, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
}

export interface ControlPlane {
  readonly url: string;
  readonly service: Service;
  /** Calls the API, with the admin token where no other is given. */
  call(
    method: string,
    path: string,
    body?: unknown,
    token?: string,
  ): Promise<{ status: number; body: Record<string, unknown> }>;
  metrics(): Promise<string>;
}

/** The real process on the servers; not started yet. */
export async function createControlPlane(
  servers: TestServers,
  env: Readonly<Record<string, string>> = {},
): Promise<ControlPlane> {
  const port = await freePort('127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  const service = createService({
    name: 'control-plane',
    command: process.execPath,
    args: [MAIN],
    env: {
      DATABASE_URL: servers.postgres.url,
      NATS_URL: servers.nats.url,
      HTTP_LISTEN: `127.0.0.1:${port}`,
      ADMIN_TOKEN,
      ...env,
    },
    logFile: join(servers.directory, `control-plane-${port}.log`),
    ready: {
      what: 'readiness',
      timeoutMs: READY_TIMEOUT_MS,
      probe: async () => (await fetch(`${url}/readyz`)).ok,
    },
  });
  return {
    url,
    service,
    async call(method, path, body, token = ADMIN_TOKEN) {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    },
    metrics: async () => (await fetch(`${url}/metrics`)).text(),
  };
}

/** What a node's process is to the control plane: its events and its presence. */
export class SimulatedNode {
  readonly id: string;
  readonly epoch = randomBytes(16).toString('hex');
  readonly incarnation = randomBytes(16).toString('hex');
  private readonly nats: NatsConnection;
  private seq = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(id: string, nats: NatsConnection) {
    this.id = id;
    this.nats = nats;
  }

  async publish(...events: ReadonlyArray<Omit<NewEvent, 'at'> & { at?: string }>): Promise<void> {
    const envelopes = events.map((event) => {
      this.seq++;
      const { id: node, epoch, incarnation, seq } = this;
      return {
        node,
        epoch,
        incarnation,
        seq,
        version: currentVersion(event.type),
        at: new Date().toISOString(),
        ...event,
      } as VpnEvent;
    });
    await this.nats.jetstream().publish(nodeEventSubject(this.id), encodeEvents(envelopes));
  }

  /** `node.started`, and one open connection of the client. */
  async startWithConnection(clientId: string): Promise<string> {
    await this.publish({
      type: 'node.started',
      data: { softwareVersion: '0.0.0', listen: '0.0.0.0:4433', tunnelMtu: 1400 },
    });
    return this.establish(clientId);
  }

  async establish(clientId: string): Promise<string> {
    const connectionId = randomUUID();
    await this.publish({
      type: 'connection.established',
      data: {
        connectionId,
        clientId,
        remoteAddress: '192.0.2.7',
        remotePort: 40_000,
        transport: 'http3',
        tunnelMtu: 1400,
      },
    });
    return connectionId;
  }

  /** One traffic window of one connection that ends now. */
  async sample(connectionId: string, clientId: string, traffic: { bytesIn: number; bytesOut: number }): Promise<void> {
    const now = Date.now();
    await this.publish({
      type: 'traffic.sampled',
      data: {
        windowStart: new Date(now - 5_000).toISOString(),
        windowEnd: new Date(now).toISOString(),
        errors: { packet: 1, other: 0 },
        drops: {},
        samples: columnsOf([
          {
            connectionId,
            clientId,
            ...traffic,
            packetsIn: 10,
            packetsOut: 20,
            rttMs: 7.5,
            latencyMs: { p50: 4, p95: 8, p99: 12 },
            lossPercent: 0,
          },
        ]),
      },
    });
  }

  startPresence(): void {
    const send = () =>
      this.nats.publish(
        presenceSubject(this.id),
        presenceMessage.encode({ epoch: this.epoch, incarnation: this.incarnation }),
      );
    send();
    this.timer = setInterval(send, 1_000);
  }

  stopPresence(): void {
    clearInterval(this.timer);
  }
}
