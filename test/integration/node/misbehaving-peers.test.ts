import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';
import { hasIpv6 } from '../../../deploy/local/netns-topology.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { hostPrefix } from '../../../shared/ip/prefix.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { udpPacket } from '../../support/udp-packet.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CONNECT_IP, CONTROL_WITH_SETTINGS, concat, frame, headers, hex } from '../../unit/http3/recording.ts';
import { packet } from '../../unit/ip/sample-packets.ts';
import { craftInitial, cryptoFrame } from '../../unit/quic/craft-initial.ts';
import { errorsOf, udpSeen } from './node-setup.ts';
import { WatchedNode } from './watched-node.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 20_000;
const IDLE_TIMEOUT_MS = 30_000;
const CONTROL_STREAM = 2;
const ICMPV6 = 58;
const DESTINATION_OPTIONS = 60;
const NOBODY = '203.0.113.77';

let node: WatchedNode;
let token = '';
let vanished = { since: 0, address: '' };

/** Connections in SQL of one client, newest first. */
function connectionsOf(
  clientId: string,
): Promise<{ state: string; reason: string; detail: string; remote_port: number }[]> {
  return node.cluster.sql(
    `SELECT state, reason, detail, remote_port FROM connections WHERE client_id = $1 ORDER BY established_at DESC`,
    [clientId],
  );
}

/** The end of the hostile peer's newest tunnel: a goodbye counts only once the core has drained (RFC 9000 10.2.2), so an older one may be seen first. */
async function tunnelEnds(peer: TestPeer): Promise<{ reason: string; detail: string }> {
  const port = Number(peer.localAddress.split(':').at(-1));
  return waitFor(
    async () => {
      const newest = (await connectionsOf('hostile')).find(({ remote_port }) => remote_port === port);
      return newest?.state === 'closed' && newest;
    },
    { timeoutMs: TIMEOUT_MS, what: `the end of the tunnel from port ${port} in SQL` },
  );
}

function routerAdvertisement(from: string, to: string): Uint8Array {
  const payload = hex('86 00 0000 40 00 0708 00000000 00000000');
  return packet({ family: 6, source: bytesOf(from), destination: bytesOf(to), protocol: ICMPV6, payload });
}

/** Destination options that say they are longer than the packet. */
function cutExtension(from: string, to: string): Uint8Array {
  const payload = hex('11 02 000000000000 0000000000000000');
  return packet({ family: 6, source: bytesOf(from), destination: bytesOf(to), protocol: DESTINATION_OPTIONS, payload });
}

const bytesOf = (address: string): Uint8Array => addressToBytes(parseAddress(address));

suite('peers that misbehave at a node with a working client', { skip }, () => {
  before(async () => {
    node = await WatchedNode.start({ clients: ['hostile', 'vanishing'] });
    token = node.token('hostile');
  });

  after(() => node?.stop());

  test('one opens a tunnel and vanishes (the end is looked for below)', async () => {
    const peer = await TestPeer.open(node.target, node.token('vanishing'));
    vanished = { since: performance.now(), address: peer.addresses[0] ?? '' };
    peer.vanish();
  });

  test('item 8 a wrong token: 401 with a challenge, and one auth error', async () => {
    const peer = await TestPeer.connect(node.target);
    assert.equal(await peer.request('not-the-token'), 401);
    assert.deepEqual(
      peer.responses.get(0)?.fields.find(([name]) => name === 'www-authenticate'),
      ['www-authenticate', 'Bearer'],
    );
    await node.expectErrors({ auth: 1 });
    // The connection is good for another try.
    assert.equal(await peer.request(undefined), 401);
    await node.expectErrors({ auth: 1 });
    assert.equal(await peer.request(token), 200);
    peer.close();
  });

  test('a token in the query works, and no log shows it', async () => {
    const peer = await TestPeer.connect(node.target);
    assert.equal(await peer.request(undefined, { path: `/.well-known/masque/ip/*/*/?token=${token}` }), 200);
    const wrong = 'wrong-secret-in-the-query';
    assert.equal(await peer.request(undefined, { path: `/.well-known/masque/ip/*/*/?token=${wrong}` }), 401);
    await node.expectErrors({ auth: 1 });
    const logs = [node.cluster.node('node-a').service, node.cluster.controlPlane].map(({ logFile }) =>
      readFileSync(logFile, 'utf8'),
    );
    for (const log of logs) assert.ok(!log.includes(token) && !log.includes(wrong) && !log.includes('not-the-token'));
    peer.close();
  });

  test('item 22 a client that comes back wishing for an address gets it, where nobody has it', async () => {
    const steady = node.cluster.client('steady').status()?.addresses[0]?.split('/')[0] ?? '';
    const wished = '10.99.0.44';
    for (const [address, granted] of [
      [wished, true],
      [steady, false],
      [wished, true],
    ] as const) {
      const peer = await TestPeer.connect(node.target);
      const answer = peer.request(token);
      peer.http3.sendData(0, encodeAddressRequest([{ requestId: 1n, prefix: hostPrefix(parseAddress(address)) }]));
      assert.equal(await answer, 200);
      await peer.until(() => peer.addresses.length > 0, 'the assignments');
      assert.equal(peer.addresses.includes(address), granted, `${address}: ${peer.addresses}`);
      peer.close();
      await tunnelEnds(peer);
    }
  });

  test('item 8 a wrong path: 404; an unknown protocol: 501; each is one connection error', async () => {
    const peer = await TestPeer.connect(node.target);
    assert.equal(await peer.request(token, { path: '/vpn' }), 404);
    await node.expectErrors({ connection: 1 });
    assert.equal(await peer.request(token, { protocol: 'connect-udp' }), 501);
    await node.expectErrors({ connection: 1 });
    const rows = await node.cluster.sql<{ status: number }>(
      'SELECT status FROM connection_failures ORDER BY position DESC LIMIT 2',
    );
    assert.deepEqual(
      rows.map(({ status }) => status),
      [501, 404],
    );
    peer.close();
  });

  test('more failures than ten a second are all counted, and fold into few events', async () => {
    const before = await node.cluster.sql<{ n: number }>('SELECT count(*)::int AS n FROM connection_failures');
    const peer = await TestPeer.connect(node.target);
    const floods = 60;
    const statuses = await Promise.all(Array.from({ length: floods }, () => peer.request('not-the-token')));
    assert.ok(statuses.every((status) => status === 401));
    await node.expectErrors({ auth: floods });
    const [rows] = await node.cluster.sql<{ n: number }>('SELECT count(*)::int AS n FROM connection_failures');
    const events = (rows?.n ?? 0) - (before[0]?.n ?? 0);
    assert.ok(events < floods / 2, `${events} events for ${floods} failures`);
    peer.close();
  });

  test('UDP that is no QUIC is nothing to the node', async () => {
    const socket = UdpSocket.bind(`${node.target.from}:0`);
    const server = socket.peers.fromText(node.target.server);
    const send = (bytes: Uint8Array) => {
      socket.queue(bytes, 0, bytes.length, server);
      socket.flush();
    };
    for (const length of [1, 2, 20, 21, 100, 1200, 1400]) {
      for (let i = 0; i < 50; i++) {
        const bytes = randomBytes(length);
        // Half of them look like the first packet of a connection, of version 1 or of none.
        if (i % 2 === 0) bytes[0] = 0xc0 | (bytes[0] ?? 0);
        if (i % 4 === 0 && length > 5) bytes.set([0, 0, 0, i % 8 === 0 ? 1 : 0], 1);
        send(bytes);
      }
    }
    socket.close();
    const peer = await TestPeer.connect(node.target);
    assert.equal(await peer.request(token), 200);
    peer.close();
    await node.expectErrors({});
  });

  test('handshakes that fail, and thousands that are never finished, keep nobody else out: a Retry lets them in', async () => {
    const retries = () => node.metric('quic_retries_sent_total');
    assert.equal(await retries(), 0);
    const noise = cryptoFrame(concat(hex('01 000060'), randomBytes(0x60)));
    const alert = cryptoFrame(concat(hex('02 000020'), randomBytes(0x20)));
    const ping = hex('01');
    for (let port = 0; port < 20; port++) {
      const socket = UdpSocket.bind(`${node.target.from}:0`);
      const server = socket.peers.fromText(node.target.server);
      for (let i = 0; i < 100; i++) {
        const frames = i % 10 === 0 ? noise : i % 10 === 1 ? alert : ping;
        const bytes = craftInitial(frames, randomBytes(20), randomBytes(20));
        socket.queue(bytes, 0, bytes.length, server);
        socket.flush();
      }
      socket.close();
    }
    const since = performance.now();
    const peer = await TestPeer.connect(node.target);
    assert.equal(await peer.request(token), 200);
    const tookMs = performance.now() - since;
    assert.ok(tookMs < 3_000, `${tookMs.toFixed()} ms`);
    peer.close();
    const limited = () => node.metric('limit_exceeded_total', { limit: 'handshakes' });
    await waitFor(async () => (await retries()) > 1_000 && (await limited()) > 1_000, {
      timeoutMs: TIMEOUT_MS,
      what: 'the Retry packets in the metrics',
    });
    await node.expectErrors({});
  });

  const broken: readonly (readonly [string, string, readonly (readonly [number, Uint8Array, boolean?])[]])[] = [
    [
      'a second control stream',
      '0x103',
      [
        [CONTROL_STREAM, CONTROL_WITH_SETTINGS],
        [6, hex('00')],
      ],
    ],
    ['a control stream without SETTINGS', '0x10a', [[CONTROL_STREAM, concat(hex('00'), frame(0x07, hex('00')))]]],
    ['SETTINGS that are cut', '0x106', [[CONTROL_STREAM, concat(hex('00'), frame(0x04, hex('08')))]]],
    ['a control stream that ends', '0x104', [[CONTROL_STREAM, CONTROL_WITH_SETTINGS, true]]],
    [
      'a frame of HTTP/2',
      '0x105',
      [
        [CONTROL_STREAM, CONTROL_WITH_SETTINGS],
        [0, frame(0x06, hex('00'))],
      ],
    ],
    ['a huge SETTINGS', '0x107', [[CONTROL_STREAM, concat(hex('00'), hex('04 80100000'), new Uint8Array(70_000))]]],
    [
      'a push stream',
      '0x103',
      [
        [CONTROL_STREAM, CONTROL_WITH_SETTINGS],
        [6, hex('0100')],
      ],
    ],
    [
      'a QPACK insert',
      '0x201',
      [
        [CONTROL_STREAM, CONTROL_WITH_SETTINGS],
        [6, hex('02 c00161')],
      ],
    ],
  ];
  for (const [what, code, writes] of broken) {
    test(`${what} closes its connection with ${code}: one connection error`, async () => {
      const peer = await TestPeer.connect(node.target, false);
      for (const [streamId, bytes, fin] of writes) peer.raw(streamId, bytes, fin);
      assert.equal(await peer.closeCode(), code);
      await node.expectErrors({ connection: 1 });
      peer.vanish();
    });
  }

  test('items 27, 34 a spoofed source: dropped, counted as a packet error, told to its sender, and never seen behind the node', async () => {
    const { behind } = node;
    const peer = await TestPeer.open(node.target, token);
    const [own4, own6] = peer.addresses as [string, string];
    const steady = (node.cluster.client('steady').status()?.addresses ?? []).map(
      (prefix) => prefix.split('/')[0] ?? '',
    );
    const came: string[] = [];
    const info = createPacketInfo();
    peer.onPacket = (bytes) => {
      assert.equal(inspectPacket(bytes, 0, bytes.length, info), 'ok');
      came.push(`${info.protocol} ${bytes[info.headerLength]}/${bytes[info.headerLength + 1]}`);
    };
    const seen = await udpSeen(behind.namespace);
    const spoofed = [NOBODY, steady[0] ?? '', node.target.from, behind.address].map((from) =>
      udpPacket(from, behind.address),
    );
    if (hasIpv6())
      spoofed.push(...['2001:db8:ffff::1', steady[1] ?? ''].map((from) => udpPacket(from, behind.address6)));
    for (const bytes of spoofed) assert.ok(peer.packet(bytes));
    await peer.until(() => came.length === spoofed.length, 'an answer to each');
    assert.deepEqual([...new Set(came)].toSorted(), hasIpv6() ? ['1 3/13', '58 1/5'] : ['1 3/13']);
    await node.expectErrors({ packet: spoofed.length });

    // A packet from its own address shows that the way is open, and that nothing came before it.
    came.length = 0;
    peer.packet(udpPacket(own4, behind.address));
    if (hasIpv6()) peer.packet(udpPacket(own6, behind.address6));
    const legitimate = hasIpv6() ? 2 : 1;
    await peer.until(() => came.length === legitimate, 'port unreachable from the server');
    assert.equal((await udpSeen(behind.namespace)) - seen, legitimate);
    peer.close();
    const [row] = await node.cluster.sql<{ drops: number }>(
      `SELECT sum((data -> 'drops' ->> 'source')::int)::int AS drops FROM events WHERE type = 'traffic.sampled'`,
    );
    assert.equal(row?.drops, spoofed.length);
  });

  test('items 30, 33, input 40 packets that are none, and packets to where none may go, are packet errors and no more', async () => {
    const peer = await TestPeer.open(node.target, token);
    const [own4 = '', own6 = ''] = peer.addresses;
    const good = udpPacket(own4, node.behind.address);
    const bad = [
      Uint8Array.of(),
      Uint8Array.of(0x45),
      good.subarray(0, 19),
      good.with(0, 0x55),
      good.with(0, 0x44),
      good.with(0, 0x4f),
      good.with(3, good.length - 1),
      concat(good, Uint8Array.of(0)),
      udpPacket(own6, 'fe80::1').subarray(0, 39),
      udpPacket(own4, '224.0.0.1'),
      udpPacket(own4, '169.254.169.254'),
      udpPacket(own6, 'ff02::2'),
      udpPacket(own6, 'fe80::1'),
      udpPacket(own4, '255.255.255.255'),
      udpPacket('169.254.1.1', node.behind.address),
      udpPacket('fe80::1', node.behind.address6),
      routerAdvertisement(own6, node.behind.address6),
      cutExtension(own6, node.behind.address6),
    ];
    for (const bytes of bad) assert.ok(peer.packet(bytes));
    await node.expectErrors({ packet: bad.length });
    // For no stream, of an unknown context, and for a stream that may never be: the first two are dropped.
    peer.datagram(hex('05 00 45'));
    peer.datagram(hex('00 02 45'));
    assert.equal(await peer.request(token), 200);
    peer.datagram(hex('bfffffff 00 45'));
    assert.equal(await peer.closeCode(), '0x108');
    // A connection that breaks with a tunnel in it is a tunnel that ends by an error, not a failed attempt.
    assert.equal((await tunnelEnds(peer)).reason, 'error');
    await node.expectErrors({ packet: 1 });
    peer.vanish();
  });

  test('input 41 a capsule beyond every limit costs its tunnel, not its connection', async () => {
    const peer = await TestPeer.open(node.target, token);
    peer.raw(0, frame(0x00, hex('01 ffffffffffffffff')));
    await peer.until(() => peer.resets.has(0), 'the reset');
    assert.equal(peer.resets.get(0), 0x107);
    assert.equal((await tunnelEnds(peer)).reason, 'error');
    assert.equal(await peer.request(token), 200);
    peer.close();
    await node.expectErrors({});
  });

  test('a flood of datagrams, capsules and resets leaves the node as it was', async () => {
    const peer = await TestPeer.open(node.target, token);
    for (let i = 0; i < 20_000; i++) {
      peer.datagram(hex('07 00 4500'));
      if (i % 200 === 199) peer.turn();
    }
    const wish = encodeCapsule(0x2b, new Uint8Array(60_000));
    for (let i = 0; i < 50; i++) peer.raw(0, frame(0x00, wish));
    for (let i = 0; i < 300; i++) {
      const streamId = 4 * (i + 1);
      peer.raw(streamId, headers(CONNECT_IP).subarray(0, 5 + (i % 20)));
      peer.quic.resetStream(0, streamId, 0x10c);
      if (i % 20 === 19) peer.turn();
    }
    await peer.ping(node.behind.address);
    peer.close('"\\ \u0000 \u2028 \u001b[2J');
    const { reason, detail } = await tunnelEnds(peer);
    assert.equal(reason, 'client');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    assert.doesNotMatch(detail, /[\u0000-\u001f]/);
    assert.deepEqual(await node.cluster.sql('SELECT * FROM dead_letter'), []);
    await node.expectErrors({});
  });

  test('peers that connect and say nothing, or half of a request, are sent away after ten seconds', async () => {
    const silent = await TestPeer.connect(node.target, false);
    const halting = await TestPeer.connect(node.target, false);
    halting.raw(CONTROL_STREAM, CONTROL_WITH_SETTINGS);
    halting.raw(0, headers(CONNECT_IP).subarray(0, 12));
    await Promise.all([
      silent.until(() => silent.closed, 'the end of the silent one', TIMEOUT_MS),
      halting.until(() => halting.closed, 'the end of the halting one', TIMEOUT_MS),
    ]);
    assert.deepEqual([silent.closed?.reason, halting.closed?.reason], ['no tunnel', 'no tunnel']);
    await node.expectErrors({ connection: 1 });
    silent.vanish();
    halting.vanish();
  });

  test('item 15 the one that vanished is idle after thirty seconds, and its address is free', async () => {
    const left = IDLE_TIMEOUT_MS - (performance.now() - vanished.since);
    const ended = await waitFor(
      async () => {
        const [newest] = await connectionsOf('vanishing');
        return newest?.state === 'closed' && newest;
      },
      { timeoutMs: Math.max(0, left) + TIMEOUT_MS, what: 'the end of the vanished one' },
    );
    assert.equal(ended.reason, 'idle');
    const rows = await node.cluster.sql(
      'SELECT upper_inf(during) AS open FROM address_assignments WHERE address = $1 ORDER BY during DESC LIMIT 1',
      [vanished.address],
    );
    assert.deepEqual(rows, [{ open: false }]);
  });

  test('all the while the other client lost no packet and kept its connection', async () => {
    await node.assertUndisturbed();
    const connections = await connectionsOf('steady');
    assert.deepEqual(
      connections.map(({ state }) => state),
      ['open'],
    );
  });

  test('the metrics show each error once, and the log has every event', async () => {
    await node.cluster.untilProjected(TIMEOUT_MS);
    assert.deepEqual(await errorsOf(node.cluster), node.errors);
    const [totals] = await node.cluster.sql<{ auth: number; connection: number }>(
      `SELECT sum(count) FILTER (WHERE error_type = 'auth')::int AS auth,
              sum(count) FILTER (WHERE error_type = 'connection')::int AS connection FROM connection_failures`,
    );
    const { auth, connection } = node.errors;
    assert.deepEqual(totals, { auth, connection });
    for (const table of ['dead_letter', 'event_gaps', 'address_conflicts']) {
      assert.deepEqual(await node.cluster.sql(`SELECT * FROM ${table}`), [], table);
    }
    const log = readFileSync(join(node.cluster.directory, 'nodes', 'node-a', 'node-a.log'), 'utf8');
    assert.ok(!log.includes('"level":50') && !log.includes('"level":60'), log);
  });
});
