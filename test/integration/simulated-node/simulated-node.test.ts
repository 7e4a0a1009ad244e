import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { needsBinary } from '../../support/requirements.ts';
import { AcceptedEvents } from '../../support/simulated-node/accepted-events.ts';
import { SimulatedNode } from '../../support/simulated-node/simulated-node.ts';
import { SimulatedNodesProcess } from '../../support/simulated-node/simulated-nodes-process.ts';
import { waitFor } from '../../support/wait-for.ts';
import {
  type ControlPlane,
  createControlPlane,
  startServers,
  type TestServers,
} from '../control-plane/control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const LOAD = { connections: 20, opensPerSecond: 200, churnPerSecond: 10, windowMs: 500 };

let servers: TestServers;
let controlPlane: ControlPlane;

before(async () => {
  if (skip) return;
  servers = await startServers();
  controlPlane = await createControlPlane(servers);
  await controlPlane.service.start();
});

after(async () => {
  if (skip) return;
  await controlPlane?.service.stop();
  await servers?.stop();
});

/** Of one node: how many events of each epoch are in the log, and the highest. */
async function logged(node: string): Promise<{ epoch: string; events: number; last: number }[]> {
  const { rows } = await servers.sql.query(
    `SELECT epoch, count(*)::int AS events, max(seq)::int AS last FROM events WHERE node = $1
     GROUP BY epoch ORDER BY min(position)`,
    [node],
  );
  return rows;
}

const untilCommitted = (node: SimulatedNode) =>
  waitFor(() => node.depth === 0, { timeoutMs: TIMEOUT_MS, what: `an empty spool of ${node.id}` });

test('what it opens, moves and closes is in the log once, with its true totals, over restarts', { skip }, async () => {
  const accepted = new AcceptedEvents();
  const options = {
    id: 'sim-a',
    natsUrl: servers.nats.url,
    stateDir: join(servers.directory, 'sim-a'),
    clients: ['ada', 'bob'],
    accepted,
  };
  const first = new SimulatedNode(options);
  await first.start();
  await waitFor(() => first.isSupplied, { timeoutMs: TIMEOUT_MS, what: 'addresses' });
  const [one, two] = [await first.open(), await first.open('eve')];
  assert.ok(one && two);
  first.writeWindow();
  await first.close(one);
  await untilCommitted(first);
  const left = first.totals;
  await first.abandon();

  const second = new SimulatedNode(options);
  assert.deepEqual([second.epoch, second.lastSeq], [first.epoch, first.lastSeq], 'the same state');
  await second.start();
  const three = await second.open();
  assert.ok(three);
  second.writeWindow();
  await second.stop();
  await waitFor(async () => (await logged('sim-a'))[0]?.last === second.lastSeq, {
    timeoutMs: TIMEOUT_MS,
    what: 'the last event in the log',
  });
  assert.deepEqual(await logged('sim-a'), [{ epoch: second.epoch, events: second.lastSeq, last: second.lastSeq }]);
  assert.deepEqual(accepted.entries(), [{ node: 'sim-a', epoch: second.epoch, lastSeq: second.lastSeq }]);

  const { rows } = await servers.sql.query(
    `SELECT sum(bytes_in)::int AS in, sum(bytes_out)::int AS out, count(*) FILTER (WHERE state = 'closed')::int AS closed
     FROM connections WHERE node = 'sim-a'`,
  );
  const sum = (name: 'bytesIn' | 'bytesOut') => left[name] + second.totals[name];
  assert.deepEqual(rows, [{ in: sum('bytesIn'), out: sum('bytesOut'), closed: 3 }]);

  rmSync(options.stateDir, { recursive: true });
  const third = new SimulatedNode(options);
  assert.notEqual(third.epoch, second.epoch, 'a lost disk is a new epoch');
  await third.start();
  await untilCommitted(third);
  await third.stop();
  assert.equal((await logged('sim-a')).length, 2);
});

test('at the end of its load it ends also the connections that are about to open', { skip }, async () => {
  const stateDir = join(servers.directory, 'sim-b');
  const node = new SimulatedNode({ id: 'sim-b', natsUrl: servers.nats.url, stateDir, clients: ['ada'] });
  await node.start();
  await waitFor(() => node.isSupplied, { timeoutMs: TIMEOUT_MS, what: 'addresses' });
  const opening = [node.open(), node.open()];
  await node.endLoad();
  assert.ok((await Promise.all(opening)).every((connectionId) => connectionId !== undefined));
  assert.equal(node.size, 0);
  await untilCommitted(node);
  const { rows } = await servers.sql.query("SELECT state FROM connections WHERE node = 'sim-b'");
  assert.deepEqual(rows, [{ state: 'closed' }, { state: 'closed' }]);
  await node.stop();
});

test('as a process it survives SIGKILL, and what it accepted is committed exactly once', { skip }, async () => {
  const directory = join(servers.directory, 'process');
  mkdirSync(directory);
  const nodes = ['sim-1', 'sim-2'].map((id) => ({ id, natsUrl: servers.nats.url, clients: ['ada'] }));
  const simulated = new SimulatedNodesProcess({ name: 'simulated', directory, nodes, load: LOAD });
  await simulated.start();
  await waitFor(() => simulated.status()?.connections === nodes.length * LOAD.connections, {
    timeoutMs: TIMEOUT_MS,
    what: 'all connections',
  });
  await simulated.service.kill();
  await simulated.start();
  await waitFor(() => simulated.status()?.connections === nodes.length * LOAD.connections, {
    timeoutMs: TIMEOUT_MS,
    what: 'all connections again',
  });
  simulated.endLoad();
  await waitFor(() => simulated.status()?.loadEnded && simulated.status()?.depth === 0, {
    timeoutMs: TIMEOUT_MS,
    what: 'all events to be committed',
  });
  await simulated.service.stop();
  for (const { node, epoch, lastSeq } of simulated.accepted().entries()) {
    // The last that it wrote as it stopped may still be on its way.
    await waitFor(async () => ((await logged(node))[0]?.last ?? 0) >= lastSeq, {
      timeoutMs: TIMEOUT_MS,
      what: `the last event of ${node} in the log`,
    });
    assert.deepEqual(await logged(node), [{ epoch, events: lastSeq, last: lastSeq }]);
  }
});
