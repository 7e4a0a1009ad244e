import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { connect, type NatsConnection } from 'nats';
import { NatsLink } from '../../../data-plane/control-link/nats-link.ts';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { type NatsServer, startNatsServer } from '../../../deploy/local/nats-server.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';

export const log = createLogger('test', process.env.LOG_LEVEL ?? 'silent');

const NODE = 'node-a';

/** A nats-server, the link and state of `node-a` with this node's rights, and a connection that plays the control plane. */
export class LinkSetup {
  readonly stateDirectory: string;
  readonly link: NatsLink;
  readonly control: NatsConnection;
  nats: NatsServer;
  database: NodeDatabase;
  readonly #ends: (() => void)[] = [];

  private constructor(stateDirectory: string, nats: NatsServer, control: NatsConnection) {
    this.stateDirectory = stateDirectory;
    this.nats = nats;
    this.control = control;
    this.link = new NatsLink({ url: nats.nodeUrl(NODE), name: 'test', inboxPrefix: nodeInbox(NODE), log });
    this.database = new NodeDatabase(stateDirectory);
  }

  static async start(t: TestContext): Promise<LinkSetup> {
    const root = mkdtempSync(join(tmpdir(), 'control-link-'));
    const nats = await startNatsServer({ directory: join(root, 'nats'), nodes: [NODE] });
    const { host, username, password } = new URL(nats.url);
    const control = await connect({
      servers: host,
      user: username,
      pass: password,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
    });
    const setup = new LinkSetup(join(root, 'state'), nats, control);
    t.after(async () => {
      for (const end of setup.#ends) end();
      await setup.link.close();
      await control.close();
      setup.database.close();
      await setup.nats.stop();
      rmSync(root, { recursive: true });
    });
    setup.link.start();
    return setup;
  }

  /** Runs before the link is closed. */
  atEnd(end: () => void): void {
    this.#ends.push(end);
  }

  reopenDatabase(): void {
    this.database.close();
    this.database = new NodeDatabase(this.stateDirectory);
  }
}
