import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
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

let servers: TestServers;
let controlPlane: ControlPlane;

before(async () => {
  if (skip) return;
  servers = await startServers([NODE]);
  controlPlane = await createControlPlane(servers);
  await controlPlane.service.start();
});

after(async () => {
  if (skip) return;
  await controlPlane?.service.stop();
  await servers?.stop();
});

/** What the node publishes to the stream is refused from here on; all else goes on. Returns the way to undo that. */
function cutOffFromStream(): () => void {
  const file = join(servers.directory, 'nats', 'nats-server.conf');
  const whole = readFileSync(file, 'utf8');
  const apply = (configuration: string) => {
    writeFileSync(file, configuration);
    process.kill(servers.nats.pid, 'SIGHUP');
  };
  apply(whole.replace(`"${nodeEventSubject(NODE)}"`, '"vpn.nowhere"'));
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

test('what a lost disk held and the stream never had is a gap, until the disk is back', { skip }, async (t) => {
  const stateDir = join(servers.directory, 'state');
  let running: SimulatedNode | undefined;
  t.after(() => running?.abandon());
  const open = (directory: string) => {
    const options = { id: NODE, natsUrl: servers.nats.nodeUrl(NODE), stateDir: directory, clients: ['ada'] };
    running = new SimulatedNode(options);
    return running;
  };
  const first = open(stateDir);
  await first.start();
  await waitFor(() => first.isSupplied, { timeoutMs: TIMEOUT_MS, what: 'addresses' });
  const connection = await first.open();
  assert.ok(connection);
  await untilCommitted(first);
  const committed = first.appliedSeq;

  const undo = cutOffFromStream();
  const lost = 1 + first.addressesOf(connection).length;
  await first.close(connection);
  const known = committed + lost;
  await waitFor(() => first.lastSeq === known, { timeoutMs: TIMEOUT_MS, what: 'the ends in the spool' });
  const isReported = async () => {
    const { rows } = await servers.sql.query('SELECT last_seq::int FROM spool_reports WHERE epoch = $1', [first.epoch]);
    return rows[0]?.last_seq === known;
  };
  await waitFor(isReported, { timeoutMs: TIMEOUT_MS, what: 'presence with the last event' });
  assert.deepEqual(await gaps(), [], 'it may come still');
  await first.abandon();
  running = undefined;
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
  running = undefined;

  const third = open(disk);
  assert.equal(third.epoch, first.epoch);
  await third.start();
  await untilCommitted(third);
  await third.stop();
  running = undefined;
  await waitFor(async () => (await verdictOf(first.epoch)) === 'complete', {
    timeoutMs: TIMEOUT_MS,
    what: 'all events of the first disk',
  });
  assert.deepEqual(await gaps(), []);
  await waitFor(async () => (await gapsInMetrics()) === 0, { timeoutMs: TIMEOUT_MS, what: 'the metrics without gap' });
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
