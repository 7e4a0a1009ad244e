import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import { presenceMessage, presenceSubject } from '../../../shared/nats/messages.ts';
import { needsBinary } from '../../support/requirements.ts';
import { SimulatedNode } from '../../support/simulated-node/simulated-node.ts';
import { waitFor } from '../../support/wait-for.ts';
import { parseExposition } from '../../unit/metrics/parse-exposition.ts';
import { randomId } from '../../unit/projections/sample-events.ts';
import {
  type ControlPlane,
  createControlPlane,
  startServers,
  type TestServers,
} from '../control-plane/control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const NODE = 'sim-tail';
const COPIED_NODE = 'sim-copy';

let servers: TestServers;
let controlPlane: ControlPlane;

before(async () => {
  if (skip) return;
  servers = await startServers([NODE, COPIED_NODE]);
  controlPlane = await createControlPlane(servers);
  await controlPlane.service.start();
});

after(async () => {
  if (skip) return;
  await controlPlane?.service.stop();
  await servers?.stop();
});

/** What a node publishes to the stream is refused from here on; all else goes on. Returns the way to undo that. */
function cutOffFromStream(node: string): () => void {
  const file = join(servers.directory, 'nats', 'nats-server.conf');
  const whole = readFileSync(file, 'utf8');
  const apply = (configuration: string) => {
    writeFileSync(file, configuration);
    process.kill(servers.nats.pid, 'SIGHUP');
  };
  apply(whole.replace(`"${nodeEventSubject(node)}"`, '"vpn.nowhere"'));
  return () => apply(whole);
}

const gaps = async () =>
  (await servers.sql.query(`SELECT epoch, from_seq::int, to_seq::int, replaced_by FROM event_gaps`)).rows;

const gapsInMetrics = async () =>
  parseExposition(await controlPlane.metrics()).get('masque_vpn_control_event_gaps')?.samples[0]?.value;

async function verdictOf(epoch: string): Promise<string> {
  const { rows } = await servers.sql.query('SELECT verdict FROM completeness WHERE epoch = $1', [epoch]);
  return rows[0]?.verdict;
}

const untilCommitted = (node: SimulatedNode) =>
  waitFor(() => node.depth === 0, { timeoutMs: TIMEOUT_MS, what: 'an empty spool' });

async function untilReported({ epoch, lastSeq }: SimulatedNode): Promise<void> {
  const isReported = async () => {
    const { rows } = await servers.sql.query('SELECT last_seq::int FROM spool_reports WHERE epoch = $1', [epoch]);
    return rows[0]?.last_seq === lastSeq;
  };
  await waitFor(isReported, { timeoutMs: TIMEOUT_MS, what: 'presence with the last event' });
}

/** Gives the node one life after the other, the last of which ends with the test. */
function opener(t: TestContext, id: string): (stateDir: string) => SimulatedNode {
  let last: SimulatedNode | undefined;
  t.after(() => last?.abandon());
  return (stateDir) => {
    last = new SimulatedNode({ id, natsUrl: servers.nats.nodeUrl(id), stateDir, clients: ['ada'] });
    return last;
  };
}

test('what a lost disk held and the stream never had is a gap, until the disk is back', { skip }, async (t) => {
  const stateDir = join(servers.directory, 'state');
  const open = opener(t, NODE);
  const first = open(stateDir);
  await first.start();
  await waitFor(() => first.isSupplied, { timeoutMs: TIMEOUT_MS, what: 'addresses' });
  const connection = await first.open();
  assert.ok(connection);
  await untilCommitted(first);
  const committed = first.appliedSeq;

  const undo = cutOffFromStream(NODE);
  const lost = 1 + first.addressesOf(connection).length;
  await first.close(connection);
  const known = committed + lost;
  await waitFor(() => first.lastSeq === known, { timeoutMs: TIMEOUT_MS, what: 'the ends in the spool' });
  await untilReported(first);
  assert.deepEqual(await gaps(), [], 'it may come still');
  await first.abandon();
  undo();

  const disk = join(servers.directory, 'disk');
  cpSync(stateDir, disk, { recursive: true });
  rmSync(stateDir, { recursive: true });
  const second = open(stateDir);
  await second.start();
  await untilCommitted(second);
  await waitFor(async () => (await gaps()).length > 0, { timeoutMs: TIMEOUT_MS, what: 'the gap' });
  assert.deepEqual(await gaps(), [
    { epoch: first.epoch, from_seq: committed + 1, to_seq: known, replaced_by: second.epoch },
  ]);
  await waitFor(async () => (await gapsInMetrics()) === 1, { timeoutMs: TIMEOUT_MS, what: 'the gap in the metrics' });
  assert.equal(
    await verdictOf(first.epoch),
    `${lost} lost (${committed + 1}-${known}); replaced: whether the spool held more than ${known} is unknown`,
  );
  await second.stop();

  const third = open(disk);
  assert.equal(third.epoch, first.epoch);
  await third.start();
  await untilCommitted(third);
  await third.stop();
  await waitFor(async () => (await verdictOf(first.epoch)) === 'complete', {
    timeoutMs: TIMEOUT_MS,
    what: 'all events of the first disk',
  });
  assert.deepEqual(await gaps(), []);
  await waitFor(async () => (await gapsInMetrics()) === 0, { timeoutMs: TIMEOUT_MS, what: 'the metrics without gap' });
});

test('what a disk had more than the older copy of it that is back, and the stream never had, is a gap for good', {
  skip,
}, async (t) => {
  const [stateDir, copy] = ['original', 'copy'].map((name) => join(servers.directory, name)) as [string, string];
  const open = opener(t, COPIED_NODE);
  const first = open(stateDir);
  await first.start();
  await waitFor(() => first.isSupplied, { timeoutMs: TIMEOUT_MS, what: 'addresses' });
  const connections = [await first.open(), await first.open()];
  await untilCommitted(first);
  const undo = cutOffFromStream(COPIED_NODE);
  await first.close(connections[0]!);
  const [epoch, kept] = [first.epoch, first.lastSeq];
  cpSync(stateDir, copy, { recursive: true });
  await first.close(connections[1]!);
  const had = first.lastSeq;
  await untilReported(first);
  assert.ok(first.appliedSeq < kept && kept < had);
  await first.abandon();
  undo();

  const second = open(copy);
  await second.start();
  await waitFor(() => second.epoch !== epoch, { timeoutMs: TIMEOUT_MS, what: 'a new epoch' });
  await untilCommitted(second);
  const gap = { epoch, from_seq: kept + 1, to_seq: had, replaced_by: second.epoch };
  await waitFor(async () => (await gaps()).length > 0, { timeoutMs: TIMEOUT_MS, what: 'the gap' });
  assert.deepEqual(await gaps(), [gap]);
  await second.stop();

  const third = open(copy);
  await third.start();
  await untilCommitted(third);
  await third.stop();
  assert.equal(third.epoch, second.epoch);
  const logged = async () => {
    const { rows } = await servers.sql.query('SELECT epoch, seq::int FROM events WHERE node = $1', [COPIED_NODE]);
    return rows.map((row) => `${row.epoch}/${row.seq}`).sort();
  };
  const numbered = (of: string, count: number) => Array.from({ length: count }, (_, i) => `${of}/${i + 1}`);
  const all = [...numbered(epoch, kept), ...numbered(third.epoch, third.lastSeq)].sort();
  await waitFor(async () => (await logged()).length >= all.length, { timeoutMs: TIMEOUT_MS, what: 'all events' });
  assert.deepEqual(await logged(), all);
  assert.deepEqual(await gaps(), [gap]);
  assert.equal(
    await verdictOf(epoch),
    `${had - kept} lost (${kept + 1}-${had}); replaced: whether the spool held more than ${had} is unknown`,
  );
  assert.equal(await verdictOf(third.epoch), 'complete');
});

test('a node that names another spool with every sign of life fills no table', { skip }, async () => {
  const signs = 200;
  const incarnation = randomId();
  let epoch = '';
  for (let lastSeq = 1; lastSeq <= signs; lastSeq++) {
    epoch = randomId();
    servers.connection.publish(presenceSubject('liar'), presenceMessage.encode({ epoch, incarnation, lastSeq }));
  }
  const isSaved = async () => (await servers.sql.query('SELECT FROM node_presence WHERE epoch = $1', [epoch])).rowCount;
  await waitFor(isSaved, { timeoutMs: TIMEOUT_MS, what: 'the last sign of life' });
  const { rows } = await servers.sql.query(
    "SELECT max(last_seq)::int, count(*)::int FROM spool_reports WHERE node = 'liar'",
  );
  assert.equal(rows[0].max, signs);
  // They may have come in two parts.
  assert.ok(rows[0].count <= 4, `${rows[0].count} spools`);
});
