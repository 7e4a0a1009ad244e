import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'nats';
import { nodePermissions, nodeUser } from '../../shared/nats/node-permissions.ts';
import { type ManagedProcess, startProcess } from './child-process.ts';
import { freePort } from './free-port.ts';
import { secretInFile, writePrivateFile } from './secret-file.ts';

const READY_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 1_000;
/** Room for the event stream (8 GiB at most) and the buckets; a limit, not a reservation on disk. */
const MAX_FILE_STORE_BYTES = 16 * 2 ** 30;
const MAX_MEMORY_STORE_BYTES = 64 * 2 ** 20;
const USER = 'masque-vpn';

export interface NatsServerOptions {
  /** Holds the store, the configuration, the passwords and the log; an existing one is picked up again. */
  readonly directory: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** 0 or none picks a free one. */
  readonly port?: number;
  /** Each gets a user that may do what this node does, and nothing else. */
  readonly nodes?: readonly string[];
}

export interface NatsServer {
  /** With user and password of the control plane, which may do everything. */
  readonly url: string;
  /** With user and password of one of `nodes`. */
  nodeUrl(nodeId: string): string;
  readonly host: string;
  readonly port: number;
  readonly process: ManagedProcess;
  readonly pid: number;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, after `stop` or `kill`, with the same store, port and password. */
  restart(): Promise<NatsServer>;
}

/** Starts a private nats-server with JetStream and waits until it answers. Needs `nats-server` on PATH. */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer> {
  const host = options.host ?? '127.0.0.1';
  const port = options.port || (await freePort(host));
  const storeDirectory = join(options.directory, 'store');
  mkdirSync(storeDirectory, { recursive: true, mode: 0o700 });
  const password = secretInFile(join(options.directory, 'password'));
  const configFile = join(options.directory, 'nats-server.conf');
  const nodes = options.nodes ?? [];
  const nodePasswords = new Map(nodes.map((id) => [id, secretInFile(join(options.directory, `password-${id}`))]));
  writePrivateFile(configFile, configuration({ host, port, storeDirectory, password, nodePasswords }));
  const child = await startProcess({
    name: 'nats-server',
    command: 'nats-server',
    args: ['--config', configFile],
    logFile: join(options.directory, 'nats-server.log'),
  });
  const urlOf = (user: string, secret: string) =>
    `nats://${user}:${secret}@${host.includes(':') ? `[${host}]` : host}:${port}`;
  try {
    await child.untilReady(() => answers(`${host}:${port}`, password), 'JetStream', READY_TIMEOUT_MS);
  } catch (error) {
    await child.kill();
    throw error;
  }
  return {
    url: urlOf(USER, password),
    nodeUrl(id) {
      const secret = nodePasswords.get(id);
      if (secret === undefined) throw new Error(`no NATS user for ${id}, only for ${nodes.join(', ') || 'no node'}`);
      return urlOf(nodeUser(id), secret);
    },
    host,
    port,
    process: child,
    pid: child.pid,
    stop: async () => void (await child.stop()),
    kill: async () => void (await child.kill()),
    restart: () => startNatsServer({ directory: options.directory, host, port, nodes }),
  };
}

async function answers(server: string, password: string): Promise<boolean> {
  const connection = await connect({
    servers: server,
    user: USER,
    pass: password,
    reconnect: false,
    timeout: CONNECT_TIMEOUT_MS,
  });
  try {
    const manager = await connection.jetstreamManager();
    await manager.getAccountInfo();
    return true;
  } finally {
    await connection.close();
  }
}

function configuration(values: {
  readonly host: string;
  readonly port: number;
  readonly storeDirectory: string;
  readonly password: string;
  readonly nodePasswords: ReadonlyMap<string, string>;
}): string {
  // JSON is a subset of this format.
  const nodeUsers = [...values.nodePasswords].map(([id, password]) => {
    const { publish, subscribe } = nodePermissions(id);
    const permissions = { publish: { allow: publish }, subscribe: { allow: subscribe } };
    return { user: nodeUser(id), password, permissions };
  });
  const users = [{ user: USER, password: values.password }, ...nodeUsers];
  return `# Written by deploy/local/nats-server.ts at every start.
server_name: masque-vpn
host: ${JSON.stringify(values.host)}
port: ${values.port}
jetstream {
  store_dir: ${JSON.stringify(values.storeDirectory)}
  max_file_store: ${MAX_FILE_STORE_BYTES}
  max_memory_store: ${MAX_MEMORY_STORE_BYTES}
}
authorization: ${JSON.stringify({ users }, null, 2)}
`;
}
