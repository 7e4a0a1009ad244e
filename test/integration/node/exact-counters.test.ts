import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { scrape } from '../../../deploy/local/http-client.ts';
import { inNamespace } from '../../../deploy/local/netns-topology.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startOneNode } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const PEER = fileURLToPath(new URL('../tun/offload-child.ts', import.meta.url));
const DATAGRAMS = 800;
/** IPv4 and UDP headers, and a payload of 1200 bytes, of which each tenth datagram has 100 less. */
const BYTES = DATAGRAMS * (20 + 8 + 1200) - (DATAGRAMS / 10) * 100;

/** A role of offload-child.ts in a namespace; `line` is its next line of output. */
function startPeer(t: TestContext, namespace: string, ...roleAndArguments: string[]) {
  const [command, args] = inNamespace(namespace, process.execPath, [PEER, ...roleAndArguments]);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return { line: async () => String((await lines.next()).value) };
}

for (const TUN_OFFLOAD of ['auto', 'off']) {
  test(`each inner packet is counted once, offload ${TUN_OFFLOAD}`, { skip, timeout: 120_000 }, async (t) => {
    const nodeEnv = { TRAFFIC_WINDOW_MS: '1000', TUN_OFFLOAD };
    const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['client-1'], nodeEnv });
    t.after(() => cluster.stop());
    const { behind } = cluster.node('node-a').place;
    const client = cluster.client('client-1');
    const own =
      client
        .status()
        ?.addresses.find((prefix) => !prefix.includes(':'))
        ?.split('/')[0] ?? '';
    const counted = async () => {
      const samples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
      const of = (family: string) => sumOf(samples, `masque_vpn_${family}_total`, { client_id: client.id });
      return ['packets_received', 'bytes_received', 'packets_sent', 'bytes_sent'].map(of);
    };
    const before = await counted();

    const transfer = async (from: readonly [string, string], to: readonly [string, string]): Promise<void> => {
      const receiver = startPeer(t, to[0], 'udp-receive', to[1], `${DATAGRAMS}`);
      assert.equal(await receiver.line(), 'ready');
      const sender = startPeer(t, from[0], 'udp-send', from[1], to[1], `${DATAGRAMS}`);
      const [calls, all] = await Promise.all([sender.line(), receiver.line()]);
      assert.ok(Number(calls) < DATAGRAMS, 'sent in runs');
      assert.equal(all, 'all');
    };
    const inside = [client.place.namespace, own] as const;
    const outside = [behind.namespace, behind.address] as const;
    await transfer(inside, outside);
    await transfer(outside, inside);

    // Not only reached but stayed at: the end of the tunnel tells its totals once more.
    const expected = [DATAGRAMS, BYTES, DATAGRAMS, BYTES].map((value, i) => value + (before[i] ?? 0));
    await waitFor(async () => (await counted()).every((value, i) => value >= (expected[i] ?? 0)), {
      timeoutMs: TIMEOUT_MS,
      what: 'all packets in the metrics',
    });
    await client.service.stop();
    const closed = async () =>
      sumOf(await scrape(`${cluster.controlPlaneUrl}/metrics`), 'masque_vpn_connections_total', { status: 'closed' });
    await waitFor(async () => (await closed()) === 1, { timeoutMs: TIMEOUT_MS, what: 'the end of the tunnel' });
    assert.deepEqual(await counted(), expected);
  });
}
