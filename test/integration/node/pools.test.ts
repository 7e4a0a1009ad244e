import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { enrol, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;

interface PoolView {
  readonly state: string;
  readonly v4: { readonly granted: number; readonly used: number } | null;
}

const pool = (cluster: Cluster, name: string) => cluster.api<PoolView>('GET', `/v1/pools/${name}`);
const until = (probe: () => Promise<boolean>, what: string) => waitFor(probe, { timeoutMs: TIMEOUT_MS, what });

/** Opens a tunnel as soon as the node knows the token. */
async function open(cluster: Cluster, token: string): Promise<TestPeer> {
  const peer = await TestPeer.connect(targetOf(cluster));
  await until(async () => (await peer.request(token)) === 200, 'the tunnel');
  await peer.until(() => peer.addresses.length > 1, 'the addresses');
  return peer;
}

test('clients get addresses of their pool; it retires while its tunnels live on, and a node that stops gives its blocks back', {
  skip,
}, async (t) => {
  const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['member'], connect: [] });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  await cluster.api('POST', '/v1/pools', { name: 'office', v4: '10.98.0.0/24', v6: 'fd00:98::/64' });
  const olga = await enrol(cluster, 'olga', 'office');
  const otto = await enrol(cluster, 'otto', 'office');
  const staying = await open(cluster, olga);
  const leaving = await open(cluster, otto);
  const member = await open(cluster, cluster.client('member').token);
  assert.deepEqual(staying.addresses, ['10.98.0.2', 'fd00:98::2']);
  assert.deepEqual(leaving.addresses, ['10.98.0.3', 'fd00:98::3']);
  assert.deepEqual(member.addresses, ['10.99.0.2', 'fd00:99::2']);
  await staying.ping(node.place.behind.address);

  await cluster.api('DELETE', '/v1/pools/office');
  leaving.close();
  // The node hears of it at once, and hands out no more addresses of it.
  let refused: { status: number; reason: string } | undefined;
  await until(async () => {
    const late = await TestPeer.connect(targetOf(cluster));
    const status = await late.request(otto);
    late.close();
    if (status === 503) {
      const sql = 'SELECT status, reason FROM connection_failures WHERE client_id = $1 AND status = 503';
      [refused] = await cluster.sql<{ status: number; reason: string }>(sql, ['otto']);
    }
    return refused !== undefined;
  }, 'the refusal');
  assert.match(refused?.reason ?? '', /pool "office" is retiring/);
  await staying.ping(node.place.behind.address);
  assert.equal((await pool(cluster, 'office')).state, 'retiring');

  await cluster.api('DELETE', '/v1/pools/office?closeTunnels=true');
  await staying.until(() => staying.ended, 'the end of the tunnel');
  await until(async () => (await pool(cluster, 'office')).state === 'retired', 'the pool to be retired');
  const [end] = await cluster.sql<{ reason: string; detail: string }>(
    `SELECT reason, detail FROM connections WHERE client_id = 'olga'`,
  );
  assert.deepEqual(end, { reason: 'drained', detail: 'the address pool is retired' });
  await member.ping(node.place.behind.address);

  const granted = async () => (await pool(cluster, 'default')).v4?.granted;
  assert.equal(await granted(), 62);
  node.service.process().signal('SIGTERM');
  assert.equal((await node.service.process().ended()).code, 0);
  await until(async () => (await granted()) === 0, 'the blocks to be given back');
  for (const peer of [staying, member]) peer.vanish();
  // It remembers which addresses rest, so it need not wait, and who comes back finds the address that it had.
  await node.service.start();
  const again = await open(cluster, cluster.client('member').token);
  assert.deepEqual(again.addresses, ['10.99.0.2', 'fd00:99::2']);
  again.close();
});
