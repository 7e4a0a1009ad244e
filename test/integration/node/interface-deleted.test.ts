import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { inNamespace } from '../../../deploy/local/netns-topology.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startOneNode } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
/** Below the idle timeout of 30 s: the client was told, it did not have to find out. */
const RECONNECT_TIMEOUT_MS = 15_000;
const TOLERANCE = 0.02;

test('a node whose interface is deleted ends at once, and what it carried is on record', { skip }, async (t) => {
  const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['client-1'] });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const client = cluster.client('client-1');
  const ip = (...args: string[]) =>
    execFileSync(...inNamespace(node.place.namespace, 'ip', args), { encoding: 'utf8' });
  await client.startTraffic({ bytesPerDownload: 200_000, pauseMs: 100 });
  await waitFor(() => (client.status()?.bytesReceived ?? 0) > 400_000, { timeoutMs: TIMEOUT_MS, what: 'traffic' });
  await client.stopTraffic();
  const [device] = JSON.parse(ip('-j', '-d', 'link', 'show', 'type', 'tun'));

  ip('link', 'delete', device.ifname);
  await waitFor(() => !node.service.running(), { timeoutMs: TIMEOUT_MS, what: 'the end of the node' });
  assert.equal(node.service.process().exitStatus()?.code, 1);
  const own = await waitFor(
    () => {
      const status = client.status();
      return status?.state === 'connecting' && status;
    },
    { timeoutMs: TIMEOUT_MS, what: 'the client to notice' },
  );

  await node.service.start();
  await waitFor(() => (client.status()?.connects ?? 0) > 1, { timeoutMs: RECONNECT_TIMEOUT_MS, what: 'a new tunnel' });
  await cluster.untilProjected(TIMEOUT_MS);
  const [ended] = await cluster.sql<{ reason: string; detail: string; bytes_in: string; bytes_out: string }>(
    'SELECT reason, detail, bytes_in, bytes_out FROM connections ORDER BY established_at LIMIT 1',
  );
  assert.equal(ended?.reason, 'error');
  assert.match(ended.detail, /interface/);
  // What was on its way when the interface went may be missing; the last window, which is most of it, is not.
  for (const [recorded, counted] of [
    [Number(ended.bytes_in), own.bytesSent],
    [Number(ended.bytes_out), own.bytesReceived],
  ] as const) {
    assert.ok(Math.abs(recorded - counted) <= counted * TOLERANCE, `${recorded} recorded, ${counted} counted`);
  }
});
