import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 30_000;

test('a node whose disk is lost comes back with a new epoch: what it left open is over, and what nobody can know is said', {
  skip,
}, async (t) => {
  const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['ada'], connect: [] });
  t.after(() => cluster.stop());
  const { token } = cluster.client('ada');
  const before = await TestPeer.open(targetOf(cluster), token);
  const addresses = before.addresses;
  await cluster.untilProjected(TIMEOUT_MS);

  const node = cluster.node('node-a');
  await node.service.kill();
  before.vanish();
  rmSync(join(cluster.directory, 'nodes', 'node-a', 'state'), { recursive: true });
  await node.service.start();
  const after = await TestPeer.open(targetOf(cluster), token);
  await after.ping(node.place.behind.address);
  await cluster.untilProjected(TIMEOUT_MS);

  const epochs = await cluster.sql<{ current: boolean; verdict: string }>(
    `SELECT current, verdict FROM completeness WHERE node = 'node-a' ORDER BY current`,
  );
  assert.deepEqual(
    epochs.map(({ current, verdict }) => [current, verdict.replace(/\d+/, 'N')]),
    [
      [false, 'replaced: whether the spool held more than N is unknown'],
      [true, 'complete'],
    ],
  );
  await waitFor(async () => (await cluster.sql(`SELECT FROM connections WHERE state <> 'closed'`)).length === 1, {
    timeoutMs: TIMEOUT_MS,
    what: 'the end of the connection of before',
  });
  const held = await cluster.sql<{ address: string; held: boolean; reason: string | null }>(
    `SELECT host(address) AS address, upper_inf(during) AS held, end_reason AS reason FROM address_assignments
     ORDER BY assigned_position`,
  );
  assert.deepEqual(
    held.slice(0, 2).map(({ address, held: isHeld, reason }) => [address, isHeld, reason]),
    addresses.map((address) => [address, false, 'error']),
  );
  assert.ok(!after.addresses.some((address) => addresses.includes(address)), 'nothing says that they have rested');
  const blocks = await cluster.sql<{ count: number }>(
    `SELECT count(*)::int AS count FROM block_states WHERE node = 'node-a' AND family(block) = 4`,
  );
  assert.equal(blocks[0]?.count, 2, 'the block of before is leased to its end');
  assert.deepEqual(await cluster.sql('SELECT FROM address_conflicts'), []);
  after.close();
});
