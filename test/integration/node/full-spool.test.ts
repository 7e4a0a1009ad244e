import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { Spool } from '../../../data-plane/telemetry/spool.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import type { NewEvent } from '../../../shared/events/envelope.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { RefusedError, TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeMetrics, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
/** The fewest that the variable takes. */
const MAX_EVENTS = 1_000;
const WINDOW_MS = 1_000;
/** A tunnel's begin: it is established, with an address of each family; and its end. */
const EVENTS_OF_TUNNEL = 3;

const earlier: NewEvent = {
  type: 'connection.failed',
  at: new Date().toISOString(),
  data: {
    remoteAddress: '192.0.2.1',
    clientId: null,
    status: 401,
    reason: 'earlier',
    errorType: 'auth',
    count: 1,
  },
};

/** Leaves room for so many events in the spool of a node that does not run. */
async function fill(stateDirectory: string, room: number): Promise<void> {
  const database = new NodeDatabase(stateDirectory);
  const spool = new Spool(database, { node: 'node-a', incarnation: 'f'.repeat(32), maxEvents: MAX_EVENTS });
  await spool.append(new Array<NewEvent>(MAX_EVENTS - spool.depth - room).fill(earlier));
  database.close();
}

test('a full spool: new tunnels get 503, open ones live on, and their traffic and ends are on record in the end', {
  skip,
}, async (t) => {
  const cluster = await startOneNode({
    directory: temporaryDirectory(t),
    clients: ['ada'],
    connect: [],
    nodeEnv: { SPOOL_MAX_EVENTS: String(MAX_EVENTS), TRAFFIC_WINDOW_MS: String(WINDOW_MS) },
  });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const target = targetOf(cluster);
  const { token } = cluster.client('ada');
  const depth = async () => sumOf(await nodeMetrics(cluster), 'masque_vpn_node_spool_depth');
  const untilDepth = (events: number) =>
    waitFor(async () => (await depth()) === events, { timeoutMs: TIMEOUT_MS, what: `${events} events in the spool` });
  const refused = () =>
    assert.rejects(TestPeer.open(target, token), (error) => error instanceof RefusedError && error.status === 503);

  // Without it nothing is committed.
  await cluster.controlPlane.stop();
  await node.service.kill();
  const started = 1;
  const last = 1;
  await fill(join(cluster.directory, 'nodes', 'node-a', 'state'), started + 2 * EVENTS_OF_TUNNEL + last);
  await node.service.start();
  const [stays, leaves] = [await TestPeer.open(target, token), await TestPeer.open(target, token)];
  await refused();
  await stays.ping(node.place.behind.address);
  // A window or the refusal has taken the last place.
  await untilDepth(MAX_EVENTS);

  leaves.close();
  await untilDepth(MAX_EVENTS + EVENTS_OF_TUNNEL);
  const fullForMs = 3.5 * WINDOW_MS;
  for (const until = performance.now() + fullForMs; performance.now() < until; )
    await stays.ping(node.place.behind.address);
  await refused();
  assert.equal(await depth(), MAX_EVENTS + EVENTS_OF_TUNNEL, 'windows and refusals wait');

  await cluster.controlPlane.start();
  await cluster.untilProjected(TIMEOUT_MS);
  const after = await TestPeer.open(target, token);
  await after.ping(node.place.behind.address);
  const connections = () =>
    cluster.sql<{ reason: string | null; packets: number; in_traffic: number; longest: number | null }>(`
      SELECT c.reason, c.packets_in::int AS packets, sum(t.packets_in)::int AS in_traffic,
        max(extract(epoch FROM t.window_end - t.window_start)) FILTER (WHERE t.kind = 'window')::float8 AS longest
      FROM connections c LEFT JOIN traffic t USING (connection_id) GROUP BY connection_id ORDER BY c.established_at`);
  const longestWindow = async () => ((await connections())[0]?.longest ?? 0) * 1_000;
  await waitFor(async () => (await longestWindow()) >= fullForMs - WINDOW_MS, {
    timeoutMs: TIMEOUT_MS,
    what: 'one window for all of the time without room',
  });
  for (const peer of [stays, after]) peer.close();
  await waitFor(async () => (await connections()).every(({ reason }) => reason === 'client'), {
    timeoutMs: TIMEOUT_MS,
    what: 'all ends',
  });
  await cluster.untilProjected(TIMEOUT_MS);
  const [first, ...others] = await connections();
  assert.equal(others.length, 2);
  assert.ok((first?.packets ?? 0) >= fullForMs / 250, `${first?.packets} packets`);
  assert.equal(first?.in_traffic, first?.packets);
  const refusals = async () =>
    (
      await cluster.sql<{ count: number | null }>(
        `SELECT sum(count)::int AS count FROM connection_failures WHERE status = 503 AND reason = 'the spool is full'`,
      )
    )[0]?.count;
  await waitFor(async () => (await refusals()) === 2, { timeoutMs: TIMEOUT_MS, what: 'both refusals' });
  const verdicts = await cluster.sql<{ verdict: string }>(`SELECT verdict FROM completeness WHERE node = 'node-a'`);
  assert.deepEqual(verdicts, [{ verdict: 'complete' }]);
});
