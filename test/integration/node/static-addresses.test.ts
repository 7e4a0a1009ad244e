import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Cluster, startCluster } from '../../../deploy/local/cluster.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { RefusedError, TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 30_000;
/** Short, so that the test sees one end. */
const LEASE_SECONDS = 4;
const FOUR = '10.99.255.7';
const SIX = 'fd00:99::ffff:7';

const setAddresses = (cluster: Cluster, addresses: readonly string[]) =>
  cluster.api('PUT', '/v1/clients/traveller/addresses', { addresses });

function open(cluster: Cluster, nodeId: string): Promise<TestPeer> {
  return TestPeer.open(targetOf(cluster, nodeId), cluster.client('traveller').token);
}

/** As our client does: again and again while it is refused. */
async function openInTheEnd(cluster: Cluster, nodeId: string): Promise<TestPeer> {
  let peer: TestPeer | undefined;
  await waitFor(
    async () => {
      peer = await open(cluster, nodeId).catch((error: unknown) => {
        if (error instanceof RefusedError && error.status === 503) return undefined;
        throw error;
      });
      return peer !== undefined;
    },
    { timeoutMs: TIMEOUT_MS, what: `a tunnel at ${nodeId}` },
  );
  return peer as TestPeer;
}

const untilOver = (peer: TestPeer) => peer.until(() => peer.ended || peer.resets.size > 0, 'the end of the tunnel');

test('a static address goes with its client: traffic flows at the node where it is, and at no other', {
  skip,
}, async (t) => {
  const cluster = await startCluster({
    directory: temporaryDirectory(t),
    nodes: ['node-a', 'node-b'],
    clients: ['traveller'],
    connect: [],
    controlPlaneEnv: { STATIC_LEASE_SECONDS: String(LEASE_SECONDS) },
  });
  t.after(() => cluster.stop());
  const behind = (nodeId: string) => cluster.node(nodeId).place.behind;
  const pings = async (peer: TestPeer, nodeId: string) => {
    await peer.ping(behind(nodeId).address);
    await peer.ping(behind(nodeId).address6);
  };
  const reasons = async () => {
    await cluster.untilProjected(TIMEOUT_MS);
    const rows = await cluster.sql<{ node: string; reason: string }>(
      `SELECT node, reason FROM connections WHERE state = 'closed' ORDER BY established_at`,
    );
    return rows.map(({ node, reason }) => `${node} ${reason}`);
  };

  await setAddresses(cluster, [FOUR, SIX]);
  await waitFor(
    async () => {
      const peer = await open(cluster, 'node-a');
      const has = peer.addresses.includes(FOUR);
      if (has) await pings(peer, 'node-a');
      peer.close();
      return has;
    },
    { timeoutMs: TIMEOUT_MS, what: 'the address, once the node knows of it' },
  );

  const first = await open(cluster, 'node-a');
  assert.deepEqual(first.addresses, [FOUR, SIX]);
  const second = await open(cluster, 'node-b');
  assert.deepEqual(second.addresses, [FOUR, SIX]);
  await untilOver(first);
  await pings(second, 'node-b');
  const third = await open(cluster, 'node-b');
  await untilOver(second);
  await pings(third, 'node-b');

  // Cut off, the node ends the tunnel with its lease; nobody else has the address before that is over for certain. (This peer does
  // not hear of it: it is cut off as well.)
  await cluster.cutFromNats('node-b');
  const log = cluster.node('node-b').service.logFile;
  await waitFor(() => readFileSync(log, 'utf8').includes(`the lease of ${FOUR} has ended`), {
    timeoutMs: TIMEOUT_MS,
    what: 'the end of the lease by the clock of the node',
  });
  await assert.rejects(open(cluster, 'node-a'), (error) => error instanceof RefusedError && error.status === 503);
  const fourth = await openInTheEnd(cluster, 'node-a');
  await pings(fourth, 'node-a');
  await cluster.rejoinNats('node-b');
  third.close();

  await setAddresses(cluster, [FOUR]);
  await untilOver(fourth);
  const fifth = await openInTheEnd(cluster, 'node-a');
  assert.equal(fifth.addresses[0], FOUR);
  assert.notEqual(fifth.addresses[1], SIX, 'of IPv6 it gets what is free');
  await setAddresses(cluster, []);
  await untilOver(fifth);
  const sixth = await open(cluster, 'node-a');
  assert.ok(!sixth.addresses.includes(FOUR));
  sixth.close();

  const found = (await reasons()).filter((line) => !line.endsWith(' client'));
  assert.deepEqual(found, ['node-b error', 'node-a revoked', 'node-a revoked']);
  const outside = await cluster.sql(
    `SELECT * FROM address_assignments a WHERE address IN ($1, $2) AND NOT EXISTS (
       SELECT FROM block_grants g WHERE g.node = a.node AND g.block = a.block AND a.during <@ g.during)`,
    [FOUR, SIX],
  );
  assert.deepEqual(outside, []);
  assert.deepEqual(await cluster.sql('SELECT * FROM address_conflicts'), []);
});
