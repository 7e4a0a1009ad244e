import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { scrape } from '../../deploy/local/http-client.ts';
import { inNamespace } from '../../deploy/local/netns-topology.ts';
import { residentBytes } from '../../deploy/local/process-usage.ts';
import { sumOf } from '../../deploy/local/prometheus-text.ts';
import { startOneNode, targetOf } from '../integration/node/node-setup.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { TunnelLoadProcess } from '../support/tunnel-load-process.ts';
import { waitFor } from '../support/wait-for.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const run = promisify(execFile);
const TUNNELS = 200;
const TIMEOUT_MS = 30_000;
const MEBIBYTE = 2 ** 20;
/** Ours: a core with 200 connections, Node itself, and room. */
const MAX_NODE_BYTES = 512 * MEBIBYTE;

test('two hundred tunnels on one node are open at once, pass packets both ways, and end cleanly', {
  skip,
}, async (t) => {
  const cluster = await startOneNode({
    directory: temporaryDirectory(t),
    clients: [],
    nodeEnv: { TRAFFIC_WINDOW_MS: '1000' },
  });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const pid = node.service.process().pid;
  const before = residentBytes(pid);
  const ids = Array.from({ length: TUNNELS }, (_, i) => `load-${i}`);
  const tokens: string[] = [];
  for (let at = 0; at < ids.length; at += 20) {
    const enrolled = ids.slice(at, at + 20).map((id) => cluster.api<{ token: string }>('POST', '/v1/clients', { id }));
    tokens.push(...(await Promise.all(enrolled)).map(({ token }) => token));
  }

  const load = new TunnelLoadProcess();
  t.after(() => load.kill());
  const active = async () =>
    sumOf(await scrape(`${cluster.controlPlaneUrl}/metrics`), 'masque_vpn_active_connections_total');

  const opened = await load.ask({ type: 'open', target: targetOf(cluster), tokens }, 'opened');
  t.diagnostic(`${TUNNELS} tunnels in ${opened.ms} ms, ${opened.refusals} attempts were told to wait for addresses`);
  const v4 = opened.addresses.map((addresses) => addresses.find((address) => !address.includes(':')) ?? '');
  assert.equal(new Set(v4).size, TUNNELS);
  assert.equal(new Set(opened.addresses.flat()).size, opened.addresses.flat().length);
  await waitFor(async () => (await active()) === TUNNELS, {
    timeoutMs: TIMEOUT_MS,
    what: `${TUNNELS} active connections`,
  });

  // Up and back: each tunnel pings the server behind the node. Down and back: the server pings each client.
  const pinged = await load.ask({ type: 'ping', address: node.place.behind.address }, 'pinged');
  assert.equal(pinged.answered, TUNNELS);
  const loop = 'for a in "$@"; do ping -n -q -c 1 -W 3 "$a" >/dev/null || echo "$a"; done';
  const { stdout } = await run(...inNamespace(node.place.behind.namespace, 'sh', ['-c', loop, 'sh', ...v4]));
  assert.equal(stdout, '', 'clients that answered the server no ping');
  const grown = residentBytes(pid);
  t.diagnostic(`node: ${toMebibytes(before)} MiB before, ${toMebibytes(grown)} MiB with ${TUNNELS} tunnels`);
  t.diagnostic(`load generator: ${toMebibytes(residentBytes(load.pid))} MiB`);
  assert.ok(grown < MAX_NODE_BYTES, `${toMebibytes(grown)} MiB`);
  assert.equal(await active(), TUNNELS);

  await load.ask({ type: 'close' }, 'closed');
  await waitFor(async () => (await active()) === 0, { timeoutMs: TIMEOUT_MS, what: 'no active connection' });
  await cluster.untilProjected(TIMEOUT_MS);
  assert.deepEqual(await cluster.sql('SELECT state, reason, count(*)::int AS n FROM connections GROUP BY 1, 2'), [
    { state: 'closed', reason: 'client', n: TUNNELS },
  ]);
  const [traffic] = await cluster.sql<{ n: number }>(
    'SELECT count(*)::int AS n FROM connections WHERE packets_in >= 2 AND packets_out >= 2 AND bytes_in > 0 AND bytes_out > 0',
  );
  assert.equal(traffic?.n, TUNNELS);
  for (const table of ['address_conflicts', 'dead_letter', 'event_gaps']) {
    assert.deepEqual(await cluster.sql(`SELECT * FROM ${table}`), [], table);
  }
  const [held] = await cluster.sql<{ n: number }>(
    'SELECT count(*)::int AS n FROM address_assignments WHERE upper_inf(during)',
  );
  assert.equal(held?.n, 0);
});

function toMebibytes(bytes: number): number {
  return Math.round(bytes / MEBIBYTE);
}
