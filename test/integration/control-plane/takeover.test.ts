import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LOCK_LOG } from '../../../control-plane/storage/projection-lock.ts';
import { needsBinary } from '../../support/requirements.ts';
import { SimulatedNode } from '../../support/simulated-node/simulated-node.ts';
import { waitFor } from '../../support/wait-for.ts';
import { parseExposition } from '../../unit/metrics/parse-exposition.ts';
import { type ControlPlane, createControlPlane, startServers, type TestServers } from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
/** What a takeover may take, from the leader's death or standstill to a commit of the next one. */
const TAKEOVER_MS = 5_000;
const CLUSTER_FAMILY = 'masque_vpn_active_connections_total';

let servers: TestServers;
let replicas: ControlPlane[];
let node: SimulatedNode;

before(async () => {
  if (skip) return;
  servers = await startServers();
  replicas = await Promise.all([createControlPlane(servers), createControlPlane(servers)]);
  await Promise.all(replicas.map(({ service }) => service.start()));
  node = new SimulatedNode({
    id: 'sim-a',
    natsUrl: servers.nats.url,
    stateDir: join(servers.directory, 'sim-a'),
    clients: ['ada'],
    load: { connections: 5, opensPerSecond: 50, churnPerSecond: 20, windowMs: 500 },
  });
  await node.start();
});

after(async () => {
  if (skip) return;
  await node?.stop();
  await Promise.all(replicas?.map(({ service }) => service.stop()) ?? []);
  await servers?.stop();
});

interface Leadership {
  readonly term: number;
  readonly pid: number;
}

async function leadership(): Promise<Leadership> {
  const { rows } = await servers.sql.query('SELECT owner_epoch::int AS term, holder FROM leadership');
  return { term: rows[0].term, pid: Number(rows[0].holder.split('/')[1]) };
}

async function roles(): Promise<{ leader: ControlPlane; standby: ControlPlane; term: number }> {
  const { term, pid } = await leadership();
  const leader = replicas.find(({ service }) => service.process().pid === pid);
  const standby = replicas.find((replica) => replica !== leader);
  assert.ok(leader && standby);
  return { leader, standby, term };
}

/** Ends when a leader of a later term has committed events; says how long that took. */
async function untilCommittedAfter(term: number, since: number): Promise<number> {
  const isCommitted = async () => {
    const { rows } = await servers.sql.query('SELECT owner_epoch::int AS term FROM event_checkpoint');
    return rows[0].term > term;
  };
  await waitFor(isCommitted, { timeoutMs: TAKEOVER_MS, what: `a commit of a term after ${term}`, intervalMs: 20 });
  return Math.round(performance.now() - since);
}

const untilFollowing = (replica: ControlPlane) =>
  waitFor(async () => (await fetch(`${replica.url}/readyz`)).ok, { timeoutMs: TIMEOUT_MS, what: 'a ready standby' });

/** Events of the node are in the log once each, without holes. */
async function assertNothingLost(): Promise<void> {
  const upTo = node.lastSeq;
  await waitFor(() => node.appliedSeq >= upTo, { timeoutMs: TIMEOUT_MS, what: 'the watermark of the node' });
  const { rows } = await servers.sql.query(
    `SELECT count(*)::int AS events, count(DISTINCT seq)::int AS seqs, min(seq)::int AS first
     FROM events WHERE node = 'sim-a' AND seq <= $1`,
    [upTo],
  );
  assert.deepEqual(rows, [{ events: upTo, seqs: upTo, first: 1 }]);
}

/** No event of the log was committed by an earlier term after a later one. */
async function assertOneLeader(): Promise<void> {
  const { rows } = await servers.sql.query(
    'SELECT c.owner_epoch = l.owner_epoch AS same FROM event_checkpoint c, leadership l',
  );
  assert.deepEqual(rows, [{ same: true }]);
}

test('a standby is ready, answers what is read, refuses changes, and shows no metrics of the cluster', {
  skip,
}, async () => {
  const { leader, standby } = await roles();
  await untilFollowing(standby);
  for (const path of ['/v1/nodes', '/v1/connections', '/v1/clients', '/v1/pools', '/v1/projection']) {
    assert.equal((await standby.call('GET', path)).status, 200, path);
  }
  const refused = await standby.call('POST', '/v1/clients', { id: 'ada' });
  assert.deepEqual([refused.status, refused.body.code], [503, 'NOT_LEADER']);
  assert.match(String(refused.body.detail), /there is no leader here/);
  assert.equal((await leader.call('POST', '/v1/clients', { id: 'ada' })).status, 201);
  assert.equal((await standby.call('GET', '/v1/clients/ada')).status, 200);
  const families = async (replica: ControlPlane) => parseExposition(await replica.metrics());
  assert.ok((await families(leader)).has(CLUSTER_FAMILY));
  const own = await families(standby);
  assert.ok(!own.has(CLUSTER_FAMILY) && own.get('masque_vpn_control_leader')?.samples[0]?.value === 0);
});

test('SIGKILL of the leader: the standby commits within 5 s, and nothing is lost or twice', { skip }, async (t) => {
  const { leader, standby, term } = await roles();
  await untilFollowing(standby);
  const since = performance.now();
  await leader.service.kill();
  t.diagnostic(`takeover after ${await untilCommittedAfter(term, since)} ms`);
  await leader.service.start();
  await assertNothingLost();
  assert.equal((await roles()).leader, standby);
});

test('SIGSTOP of the leader: the standby commits within 5 s, and the old one never again after SIGCONT', {
  skip,
}, async (t) => {
  const { leader, standby, term } = await roles();
  await untilFollowing(standby);
  const since = performance.now();
  leader.service.process().signal('SIGSTOP');
  try {
    t.diagnostic(`takeover after ${await untilCommittedAfter(term, since)} ms`);
  } finally {
    leader.service.process().signal('SIGCONT');
  }
  await untilFollowing(leader);
  assert.match(readFileSync(leader.service.logFile, 'utf8'), /leadership lost/);
  assert.ok(!parseExposition(await leader.metrics()).has(CLUSTER_FAMILY));
  assert.equal((await leader.call('DELETE', '/v1/clients/ada')).status, 503);
  await assertNothingLost();
  await assertOneLeader();
  assert.equal((await leadership()).term, term + 1);
});

test('a leader that stands still with the lock of the log in an open transaction holds nobody up', {
  skip,
}, async (t) => {
  const { leader, standby, term } = await roles();
  await untilFollowing(standby);
  const holder = await servers.sql.connect();
  const holders = async (granted: boolean) => {
    const { rows } = await holder.query(
      `SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN leadership USING (application_name)
       WHERE l.relation = 'log_lock'::regclass AND l.mode = 'ExclusiveLock' AND l.granted = $1`,
      [granted],
    );
    return rows.length;
  };
  const since = performance.now();
  try {
    await holder.query('BEGIN');
    await holder.query(LOCK_LOG);
    await waitFor(() => holders(false), { timeoutMs: TIMEOUT_MS, what: 'a commit that waits' });
    leader.service.process().signal('SIGSTOP');
    await holder.query('ROLLBACK');
    assert.equal(await holders(true), 1, 'its session got the lock while it stands still');
    t.diagnostic(`takeover after ${await untilCommittedAfter(term, since)} ms`);
  } finally {
    leader.service.process().signal('SIGCONT');
    holder.release();
  }
  await untilFollowing(leader);
  await assertNothingLost();
  await assertOneLeader();
  assert.equal((await roles()).leader, standby);
});
