import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { type ManagedProcess, startProcess } from '../../../deploy/local/child-process.ts';
import { freePort } from '../../../deploy/local/free-port.ts';
import { startNatsServer } from '../../../deploy/local/nats-server.ts';
import { nodeInbox, nodePermissions, nodeUser } from '../../../shared/nats/node-permissions.ts';
import { CREDENTIALS_BUCKET, EVENT_STREAM, ensureEventStream } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 10_000;
const COMPOSE_CONFIGURATION = new URL('../../../deploy/nats/nats-server.conf', import.meta.url);

function open(url: string, inboxPrefix?: string): Promise<NatsConnection> {
  const { host, username: user, password: pass } = new URL(url);
  return connect({ servers: host, user, pass, ...(inboxPrefix === undefined ? {} : { inboxPrefix }) });
}

interface Server {
  readonly url: string;
  nodeUrl(nodeId: string): string;
}

async function startLocal(t: TestContext): Promise<Server> {
  const server = await startNatsServer({ directory: temporaryDirectory(t), nodes: ['node-a', 'node-b'] });
  t.after(() => server.stop());
  return server;
}

/** With the configuration of docker-compose.yml, but for its port and directory. */
async function startComposed(t: TestContext): Promise<Server> {
  const directory = temporaryDirectory(t);
  const port = await freePort('127.0.0.1');
  const text = readFileSync(COMPOSE_CONFIGURATION, 'utf8')
    .replace(/^port: 4222$/m, `host: "127.0.0.1"\nport: ${port}`)
    .replace('store_dir: /data', `store_dir: ${JSON.stringify(join(directory, 'store'))}`);
  writeFileSync(join(directory, 'nats-server.conf'), text);
  const urlOf = (user: string, password: string) => `nats://${user}:${password}@127.0.0.1:${port}`;
  const url = urlOf('masque-vpn', 'control-secret');
  const server: ManagedProcess = await startProcess({
    name: 'nats-server',
    command: 'nats-server',
    args: ['--config', join(directory, 'nats-server.conf')],
    env: { NATS_PASSWORD: '"control-secret"', NATS_PASSWORD_NODE_A: '"secret-a"', NATS_PASSWORD_NODE_B: '"secret-b"' },
    logFile: join(directory, 'nats-server.log'),
  });
  t.after(() => server.stop());
  const answers = async () => {
    await (await open(url)).close();
    return true;
  };
  await server.untilReady(answers, 'an answer', TIMEOUT_MS);
  return { url, nodeUrl: (id) => urlOf(nodeUser(id), `secret-${id.at(-1)}`) };
}

const FOREIGN_PUBLISHES = [
  'vpn.events.node.node-b',
  'vpn.events.control',
  'vpn.presence.node-b',
  'vpn.rpc.block.node-b',
  'vpn.rpc.static.node-b',
  'vpn.release.node-a',
  'vpn.release.node-b',
  'vpn.rpc.watermark.node-b',
  'vpn.watermark.node-a',
  'vpn.watermark.node-b',
  `$KV.${CREDENTIALS_BUCKET}.alice`,
  `$JS.API.STREAM.DELETE.KV_${CREDENTIALS_BUCKET}`,
  `$JS.API.STREAM.UPDATE.${EVENT_STREAM}`,
  `$JS.API.STREAM.MSG.GET.${EVENT_STREAM}`,
  `$JS.API.CONSUMER.CREATE.${EVENT_STREAM}`,
  `$JS.API.CONSUMER.DELETE.KV_${CREDENTIALS_BUCKET}.any`,
  '_INBOX_node-b.reply',
];
const FOREIGN_SUBSCRIPTIONS = [
  '>',
  'vpn.>',
  'vpn.rpc.block.*',
  'vpn.watermark.node-b',
  'vpn.release.node-b',
  '_INBOX_node-b.>',
  '_INBOX.>',
];

for (const [name, start] of [
  ['of a local cluster', startLocal],
  ['of docker-compose.yml', startComposed],
] as const) {
  test(`a node's user ${name} can do what the node does, and speaks and listens for no other`, { skip }, async (t) => {
    const server = await start(t);
    const control = await open(server.url);
    const node = await open(server.nodeUrl('node-a'), nodeInbox('node-a'));
    t.after(async () => {
      await node.close();
      await control.close();
    });
    await ensureEventStream(await control.jetstreamManager());
    const bucket = await control.jetstream().views.kv(CREDENTIALS_BUCKET, { history: 1 });
    await bucket.put('alice', 'kept');
    const seen: string[] = [];
    control.subscribe('>', { callback: (_error, message) => void seen.push(message.subject) });
    await control.flush();
    const refused: string[] = [];
    void (async () => {
      for await (const { permissionContext: context } of node.status()) {
        if (context !== undefined) refused.push(`${context.operation} ${context.subject}`);
      }
    })();

    const { publish, subscribe } = nodePermissions('node-a');
    for (const subject of subscribe) node.subscribe(subject, { callback: () => undefined });
    for (const subject of publish.filter((pattern) => !pattern.endsWith('>'))) node.publish(subject);
    await waitFor(() => publish.every((subject) => subject.endsWith('>') || seen.includes(subject)), {
      timeoutMs: TIMEOUT_MS,
      what: 'what the node may publish',
    });
    assert.deepEqual(refused, []);

    seen.length = 0;
    for (const subject of FOREIGN_PUBLISHES) node.publish(subject, 'forged');
    for (const subject of FOREIGN_SUBSCRIPTIONS) node.subscribe(subject, { callback: () => undefined });
    await node.flush();
    await waitFor(() => refused.length >= FOREIGN_PUBLISHES.length + FOREIGN_SUBSCRIPTIONS.length, {
      timeoutMs: TIMEOUT_MS,
      what: 'the refusals',
    }).catch(() => undefined);
    const expected = [
      ...FOREIGN_PUBLISHES.map((subject) => `publish ${subject}`),
      ...FOREIGN_SUBSCRIPTIONS.map((subject) => `subscription ${subject}`),
    ];
    assert.deepEqual(refused.sort(), expected.sort());
    await control.flush();
    await turn();
    assert.deepEqual(
      seen.filter((subject) => FOREIGN_PUBLISHES.includes(subject)),
      [],
    );
    assert.equal((await bucket.get('alice'))?.string(), 'kept');
    await assert.rejects(open(server.nodeUrl('node-a').replace('node-a', 'node-b')), /Authorization/i);
  });
}
