import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { hasIpv6, inNamespace } from '../../../deploy/local/netns-topology.ts';
import { pseudoRandomBytes, sha256 } from '../../../deploy/local/pseudo-random.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { packet } from '../../unit/ip/sample-packets.ts';
import { startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const run = promisify(execFile);
const TIMEOUT_MS = 20_000;
/** The node's; the client's is 1400, so that what the client announces as its MSS is too much for the way down. */
const TUNNEL_MTU = 1280;
/** Of the link behind the node, set while the way up is looked at; above 1280, or the link would lose its IPv6. */
const LINK_MTU = 1300;
const DOWNLOAD_PORT = 8080;
const DOWNLOAD_BYTES = 1_000_000;
const ICMP_HEADER_BYTES = 8;
const SERVER = fileURLToPath(new URL('../../../deploy/local/download-server.ts', import.meta.url));
const FETCH = 'process.stdout.write(Buffer.from(await (await fetch(process.argv[1])).arrayBuffer()))';

let cluster: Cluster;
let endOfTest = () => {};

suite('ICMP errors on the wire', { skip }, () => {
  before(async () => {
    const directory = temporaryDirectory({
      after: (end) => {
        endOfTest = end;
      },
    });
    const nodeEnv = { TUNNEL_MTU: String(TUNNEL_MTU), TRAFFIC_WINDOW_MS: '1000' };
    cluster = await startOneNode({ directory, clients: ['client-1', 'peer'], connect: ['client-1'], nodeEnv });
  });

  after(async () => {
    await cluster?.stop();
    endOfTest();
  });

  test('item 32 TCP to a client finds the way in spite of an MSS that is too large: the sender is told the MTU', async () => {
    const { namespace, behind } = cluster.node('node-a').place;
    const client = cluster.client('client-1').place.namespace;
    for (const [own, server] of pairs(cluster)) {
      assert.equal(await fetchFrom(client, server), true);
      assert.match(await ip(behind.namespace, 'route', 'get', own), new RegExp(`mtu ${TUNNEL_MTU}\\b`));
    }
    assert.match(await ip(namespace, 'link', 'show', 'masque0'), new RegExp(`mtu ${TUNNEL_MTU}\\b`));
  });

  test('9484-10.1 a packet to a client that is too large is answered with Packet Too Big, the largest passes', async () => {
    const { behind } = cluster.node('node-a').place;
    await forgetMtus(behind.namespace);
    for (const [own] of pairs(cluster)) {
      assert.match(await ping(behind.namespace, own, TUNNEL_MTU), / 0% packet loss/);
      assert.match(await ping(behind.namespace, own, TUNNEL_MTU + 1), tooBig(TUNNEL_MTU));
    }
  });

  test('item 32 the same on the way up, where the link behind the node takes less than the tunnel', async (t) => {
    const { namespace, behind } = cluster.node('node-a').place;
    const client = cluster.client('client-1').place.namespace;
    await ip(namespace, 'link', 'set', 'lan0', 'mtu', String(LINK_MTU));
    const [command, args] = inNamespace(client, process.execPath, [SERVER, String(DOWNLOAD_PORT)]);
    const server = spawn(command, args, { stdio: 'ignore' });
    t.after(() => server.kill());
    // The fetching end would announce an MSS after what it knows of the way down.
    await forgetMtus(behind.namespace);
    for (const [own, far] of pairs(cluster)) {
      await waitFor(() => fetchFrom(behind.namespace, own), { timeoutMs: TIMEOUT_MS, what: `a download from ${own}` });
      assert.match(await ip(client, 'route', 'get', far), new RegExp(`mtu ${LINK_MTU}\\b`));
      await forgetMtus(client);
      assert.match(await ping(client, far, LINK_MTU + 1), tooBig(LINK_MTU));
    }
    await ip(namespace, 'link', 'set', 'lan0', 'mtu', '1500');
  });

  test('item 28 what the node does not reach: the client is told that there is no route', async () => {
    const { behind } = cluster.node('node-a').place;
    const client = cluster.client('client-1').place.namespace;
    const elsewhere = [behind.prefix, behind.prefix6].map((prefix) => outsideOf(prefix.split('/')[0] ?? ''));
    for (const address of hasIpv6() ? elsewhere : elsewhere.slice(0, 1)) {
      assert.match(
        await ping(client, address, 100),
        /From .* (Destination Net Unreachable|Destination unreachable: No route)/,
      );
    }
  });

  test('item 28 an address that no client has: the sender behind the node is told, and not without limit', async () => {
    const { behind } = cluster.node('node-a').place;
    const nobody = hasIpv6() ? ['10.99.0.60', 'fd00:99::60'] : ['10.99.0.60'];
    for (const address of nobody) {
      const unreachable = /From .* (Destination Host Unreachable|Destination unreachable: Address unreachable)/;
      assert.match(await ping(behind.namespace, address, 100), unreachable);
    }
    const [command, args] = inNamespace(behind.namespace, 'ping', [
      '-n',
      '-q',
      '-i',
      '0.001',
      '-c',
      '1000',
      nobody[0] ?? '',
    ]);
    const { stdout } = await run(command, args).catch((error: { stdout: string }) => error);
    const [, errors, seconds] = /\+(\d+) errors,.* time (\d+)ms/.exec(stdout) ?? [];
    assert.ok(Number(errors) >= 50, stdout);
    assert.ok(Number(errors) <= 50 + 1 + (Number(seconds) / 1000) * 100, stdout);
  });

  test('item 34 a client hears of its mistakes ten times a second, not more', async () => {
    const peer = await TestPeer.open(targetOf(cluster), cluster.client('peer').token);
    const info = createPacketInfo();
    let errors = 0;
    peer.onPacket = (bytes) => {
      assert.equal(inspectPacket(bytes, 0, bytes.length, info), 'ok');
      if (info.protocol === 1 && bytes[info.headerLength] === 3) errors++;
    };
    const source = addressToBytes(parseAddress(peer.addresses[0] ?? ''));
    const astray = packet({ family: 4, source, destination: Uint8Array.of(203, 0, 113, 7) });
    const since = performance.now();
    for (let i = 0; i < 500; i++) assert.ok(peer.packet(astray));
    await peer.ping(cluster.node('node-a').place.behind.address);
    const seconds = (performance.now() - since) / 1000;
    assert.ok(errors >= 10 && errors <= 10 + 1 + seconds * 10, `${errors} errors in ${seconds} s`);
    peer.close();
  });
});

/** The client's address and the server's behind the node, of each family. */
function pairs(of: Cluster): (readonly [own: string, far: string])[] {
  const { behind } = of.node('node-a').place;
  const own = (of.client('client-1').status()?.addresses ?? []).map((prefix) => prefix.split('/')[0] ?? '');
  const [v4, v6] = [own.find((one) => !one.includes(':')), own.find((one) => one.includes(':'))];
  assert.ok(v4 !== undefined && (v6 !== undefined || !hasIpv6()));
  return hasIpv6() && v6 !== undefined
    ? [
        [v4, behind.address],
        [v6, behind.address6],
      ]
    : [[v4, behind.address]];
}

/** An address near one that the client sends into the tunnel as well, and the node to nowhere. */
function outsideOf(network: string): string {
  return network.includes(':')
    ? network.replace(/:0::$/, ':3::9')
    : network.replace(/\d+$/, (last) => `${Number(last) + 13}`);
}

/** Whether a download came whole. */
async function fetchFrom(namespace: string, host: string): Promise<boolean> {
  const seed = 'mtu';
  const authority = host.includes(':') ? `[${host}]` : host;
  const url = `http://${authority}:${DOWNLOAD_PORT}/${DOWNLOAD_BYTES}/${seed}`;
  const [command, args] = inNamespace(namespace, process.execPath, ['--input-type=module', '-e', FETCH, url]);
  const { stdout } = await run(command, args, {
    encoding: 'buffer',
    maxBuffer: 2 * DOWNLOAD_BYTES,
    timeout: TIMEOUT_MS,
  });
  return sha256(stdout) === sha256(pseudoRandomBytes(seed, DOWNLOAD_BYTES));
}

/** What ping says of one packet of so many bytes, IP header included, that nobody may cut. It exits with 1 where no answer came. */
function ping(namespace: string, address: string, bytes: number): Promise<string> {
  const payload = bytes - ICMP_HEADER_BYTES - (address.includes(':') ? 40 : 20);
  const options = ['-n', '-c', '1', '-W', '5', '-M', 'do', '-s', String(payload), address];
  const [command, args] = inNamespace(namespace, 'ping', options);
  return new Promise((resolve) => execFile(command, args, (_error, stdout) => resolve(stdout)));
}

const tooBig = (mtu: number): RegExp =>
  new RegExp(`From .* (Frag needed and DF set \\(mtu = ${mtu}\\)|Packet too big: mtu=${mtu})`);

async function forgetMtus(namespace: string): Promise<void> {
  for (const family of hasIpv6() ? ['-4', '-6'] : ['-4']) await ip(namespace, family, 'route', 'flush', 'cache');
}

async function ip(namespace: string, ...args: string[]): Promise<string> {
  const family = args.some((arg) => arg.includes(':')) ? ['-6'] : [];
  const [command, words] = inNamespace(namespace, 'ip', [...family, ...args]);
  return (await run(command, words)).stdout;
}
