import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, suite, test } from 'node:test';
import { scrape } from '../../../deploy/local/http-client.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { hostPort } from '../../../shared/config/parse-config.ts';
import {
  END_HEADERS,
  END_STREAM,
  FRAME,
  headerBlock,
  headersFrames,
  http2Frame,
  PREFACE,
} from '../../support/http2-frames.ts';
import { connectNodeTls, Http2Peer } from '../../support/http2-peer.ts';
import { RawHttp2Peer } from '../../support/raw-http2-peer.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CONNECT_IP, hex } from '../../unit/http3/recording.ts';
import { CountingPeer } from './counting-peer.ts';
import { WatchedNode } from './watched-node.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 20_000;
const IDLE_TIMEOUT_MS = 30_000;
const NO_ERROR = 0x0;
const PROTOCOL_ERROR = 0x1;
const REFUSED_STREAM = 0x7;
const MAX_STREAMS = 16;
const ADVERTISED_STREAMS = 100;
const PINGS = 50;
const ROUNDS = 13;

let node: WatchedNode;
let token = '';

const request = (changes: readonly (readonly [string, string])[] = [], flags = END_HEADERS, streamId = 1): Buffer =>
  http2Frame(FRAME.HEADERS, flags, streamId, headerBlock([...CONNECT_IP, ...changes]));

suite('item 41 peers of HTTP/2 at a node with a working client', { skip }, () => {
  before(async () => {
    node = await WatchedNode.start({ clients: ['tester', 'vanishing', 'counted'] });
    token = node.token('tester');
  });

  after(() => node?.stop());

  let vanished: { peer: RawHttp2Peer; since: number };

  test('one opens a tunnel and vanishes (the end is looked for below)', async () => {
    const peer = await RawHttp2Peer.connect(node.target);
    peer.write(request([['authorization', `Bearer ${node.token('vanishing')}`]]));
    await peer.until(() => peer.frames.some(({ type }) => type === FRAME.DATA), 'the assignments');
    vanished = { peer, since: performance.now() };
    peer.vanish();
  });

  test('the node says that it takes extended CONNECT, and only HTTP/2 is spoken on TCP', async () => {
    const peer = await Http2Peer.connect(node.target);
    assert.equal(peer.session.remoteSettings.enableConnectProtocol, true);
    assert.equal(peer.session.remoteSettings.maxConcurrentStreams, ADVERTISED_STREAMS);
    peer.close();
    for (const alpn of [['http/1.1'], ['h3'], []]) {
      const socket = connectNodeTls(node.target, { alpn });
      socket.resume();
      await waitFor(() => socket.closed, { timeoutMs: TIMEOUT_MS, what: `the end of a connection with ${alpn}` });
    }
    await node.expectErrors({});
  });

  test('a request that is not CONNECT-IP gets the status that it gets over HTTP/3, each an error', async () => {
    const peer = await RawHttp2Peer.connect(node.target);
    const get = [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':authority', 'a'],
      [':path', '/'],
    ] as const;
    peer.write(http2Frame(FRAME.HEADERS, END_HEADERS | END_STREAM, 1, headerBlock(get)));
    const plain = [
      [':method', 'CONNECT'],
      [':authority', 'a:443'],
    ] as const;
    peer.write(http2Frame(FRAME.HEADERS, END_HEADERS, 3, headerBlock(plain)));
    await peer.until(() => peer.frames.filter(({ type }) => type === FRAME.HEADERS).length === 2, 'the answers');
    await node.expectErrors({ connection: 2 });
    const rows = await node.cluster.sql<{ status: number }>(
      'SELECT status FROM connection_failures ORDER BY position DESC LIMIT 2',
    );
    assert.deepEqual(rows.map(({ status }) => status).toSorted(), [404, 501]);
    peer.close();
  });

  test('input 25 a head of 20 or 100 kB gets 431, one of 1 MB costs its connection; each is an error', async () => {
    const large = await Http2Peer.connect(node.target);
    const refused = await large.request(token, { 'x-padding': 'x'.repeat(20_000) });
    assert.equal(refused.status, 431);
    assert.equal((await large.request(token)).status, 200);
    large.close();
    await node.expectErrors({ connection: 1 });
    const continued = (bytes: number): Buffer[] => {
      const padding = Array.from({ length: bytes / 10_000 }, () => ['x-padding', 'x'.repeat(10_000)] as const);
      return headersFrames(1, [...CONNECT_IP, ...padding]);
    };
    const larger = await RawHttp2Peer.connect(node.target);
    larger.write(...continued(100_000));
    await larger.until(() => larger.resetCode(1) !== undefined || larger.closed, 'the reset');
    assert.equal(larger.resetCode(1), NO_ERROR, 'after an answer');
    larger.write(request([['authorization', `Bearer ${token}`]], END_HEADERS, 3));
    await larger.until(() => larger.frames.some(({ type }) => type === FRAME.DATA), 'a tunnel beside it');
    larger.close();
    await node.expectErrors({ connection: 1 });
    const largest = await RawHttp2Peer.connect(node.target);
    largest.write(...continued(1_050_000));
    await largest.until(() => largest.closed, 'the end of the connection');
    await node.expectErrors({ connection: 1 });
  });

  /** What nghttp2 refuses by itself never gets to be a request, and is no error. */
  const malformed: readonly (readonly [string, readonly (readonly [string, string])[], number])[] = [
    ['input 30 :path twice', [...CONNECT_IP, [':path', '/']], 0],
    ['input 31 a pseudo-header after a field', [...CONNECT_IP.slice(1), ['a', 'b'], [':method', 'CONNECT']], 0],
    ['an uppercase name', [...CONNECT_IP, ['Upper', 'x']], 0],
    ['a field of the connection', [...CONNECT_IP, ['connection', 'close']], 0],
    ['input 32 content-length 0', [...CONNECT_IP, ['content-length', '0']], 1],
    ['no :path', CONNECT_IP.filter(([name]) => name !== ':path'), 0],
    ['no :authority', CONNECT_IP.filter(([name]) => name !== ':authority'), 0],
    ['host that is not :authority', [...CONNECT_IP, ['host', 'another.example']], 1],
    [
      'input 34 a scope that is none',
      CONNECT_IP.map(([name, value]) => [name, name === ':path' ? '/.well-known/masque/ip/10.0.0.1%2F24/17/' : value]),
      1,
    ],
  ];
  for (const [what, lines, errors] of malformed) {
    test(`${what} costs its stream alone: PROTOCOL_ERROR`, async () => {
      const peer = await RawHttp2Peer.connect(node.target);
      peer.write(http2Frame(FRAME.HEADERS, END_HEADERS, 1, headerBlock(lines)));
      await peer.until(() => peer.resetCode(1) !== undefined, 'the reset');
      assert.equal(peer.resetCode(1), PROTOCOL_ERROR);
      peer.write(request([['authorization', `Bearer ${token}`]], END_HEADERS, 3));
      await peer.until(
        () => peer.frames.some(({ type, streamId }) => type === FRAME.DATA && streamId === 3),
        'a tunnel',
      );
      peer.close();
      await node.expectErrors({ connection: errors });
    });
  }

  test('what is no HTTP/2 closes its connection, and is an error', async () => {
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\n\r\n'.padEnd(64, ' ')),
      Buffer.concat([PREFACE, http2Frame(FRAME.SETTINGS, 0, 1)]),
      Buffer.concat([PREFACE, http2Frame(FRAME.SETTINGS, 0, 0), http2Frame(FRAME.DATA, 0, 0, hex('00'))]),
      Buffer.concat([PREFACE, http2Frame(FRAME.SETTINGS, 0, 0), http2Frame(FRAME.HEADERS, END_HEADERS, 2, hex('82'))]),
    ]) {
      const peer = await RawHttp2Peer.connect(node.target, false).catch(() => undefined);
      peer?.write(bytes);
      await peer?.until(() => peer.closed, 'the end of the connection');
    }
    await node.expectErrors({ connection: 4 });
  });

  test('more streams than a connection may have are refused, and those that it may have live', async () => {
    const peer = await Http2Peer.connect(node.target);
    const tunnel = await peer.request(token);
    assert.equal(tunnel.status, 200);
    const raw = await RawHttp2Peer.connect(node.target);
    // In one write: those that are answered already would make room for the last.
    raw.write(Buffer.concat(Array.from({ length: MAX_STREAMS + 1 }, (_, i) => request([], END_HEADERS, 2 * i + 1))));
    await raw.until(() => raw.resetCode(2 * MAX_STREAMS + 1) === REFUSED_STREAM, 'the reset of the last');
    raw.close();
    await node.expectErrors({ auth: MAX_STREAMS });
    assert.equal(tunnel.closed, undefined);
    peer.close();
  });

  test('input 49 peers that say nothing, or half of a request, are sent away after ten seconds', async () => {
    const { host, port } = hostPort.parse(node.target.server) ?? { host: '', port: 0 };
    const tcp = connect({ host, port, localAddress: node.target.from });
    tcp.on('error', () => {});
    const silent = await RawHttp2Peer.connect(node.target);
    const halting = await RawHttp2Peer.connect(node.target);
    halting.write(request([], 0));
    await Promise.all([
      waitFor(() => tcp.closed, { timeoutMs: TIMEOUT_MS, what: 'the end of a handshake that never begins' }),
      silent.until(() => silent.closed, 'the end of the silent one'),
      halting.until(() => halting.closed, 'the end of the halting one'),
    ]);
    assert.deepEqual([silent.goawayCode, halting.goawayCode], [NO_ERROR, NO_ERROR]);
    await node.expectErrors({});
  });

  test('a flood of resets and pings leaves the node as it was', async () => {
    const peer = await RawHttp2Peer.connect(node.target);
    for (let i = 0; i < 3_000 && !peer.closed; i++) {
      peer.write(request([], END_HEADERS, 2 * i + 1), http2Frame(FRAME.RST_STREAM, 0, 2 * i + 1, hex('00000008')));
      peer.write(http2Frame(FRAME.PING, 0, 0, new Uint8Array(8)));
    }
    await peer.until(() => peer.closed, 'the end of it');
    const { peer: other, tunnel } = await Http2Peer.open(node.target, token);
    await new CountingPeer('tester', tunnel).ping(node.behind.address, 1);
    other.close();
    await node.acceptErrors();
  });

  test('a tunnel that ends leaves no descriptor, however it ends', async () => {
    const { pid } = node.cluster.node('node-a').service.process();
    const descriptors = () => readdirSync(`/proc/${pid}/fd`).length;
    const active = () => node.metric('active_connections', { transport: 'http2' });
    await waitFor(async () => (await active()) <= 1, { timeoutMs: TIMEOUT_MS, what: 'the ends of other tests' });
    const round = async (tunnels: number) => {
      const peer = await Http2Peer.connect(node.target);
      const opened = await Promise.all(
        Array.from({ length: tunnels }, (_, i) =>
          // Some end before they are open: the client leaves while the node decides.
          i % 4 === 3 ? peer.send(token) : peer.request(token),
        ),
      );
      for (const [i, tunnel] of opened.entries()) {
        if (i % 4 === 0) tunnel.stream.end();
        else if (i % 4 === 1) tunnel.raw(hex('02 00'));
        else tunnel.stream.close(0x8);
      }
      await peer.until(() => opened.every(({ closed }) => closed !== undefined), 'the ends');
      peer.close();
      await waitFor(async () => (await active()) <= 1, { timeoutMs: TIMEOUT_MS, what: 'the ends at the node' });
    };
    await round(MAX_STREAMS);
    const before = descriptors();
    for (let i = 0; i < ROUNDS; i++) await round(MAX_STREAMS);
    await waitFor(() => descriptors() <= before, { timeoutMs: TIMEOUT_MS, what: `no more than ${before} descriptors` });
    await node.acceptErrors();
  });

  test('each inner packet is counted once', async () => {
    const { behind } = node;
    const { peer, tunnel } = await Http2Peer.open(node.target, node.token('counted'));
    const counting = new CountingPeer('counted', tunnel);
    await counting.ping(behind.address, PINGS);
    peer.close();
    const counted = async () => {
      const samples = await scrape(`${node.cluster.controlPlaneUrl}/metrics`);
      return ['packets_received', 'bytes_received', 'packets_sent', 'bytes_sent'].map((family) =>
        sumOf(samples, `masque_vpn_${family}_total`, { client_id: 'counted' }),
      );
    };
    const { sent, received } = counting;
    const all = [sent.packets, sent.bytes, received.packets, received.bytes];
    assert.equal(sent.packets, PINGS);
    await waitFor(async () => (await counted())[0] === sent.packets, { timeoutMs: TIMEOUT_MS, what: 'the counters' });
    assert.deepEqual(await counted(), all);
    const [row] = await node.cluster.sql<{
      packets_in: string;
      bytes_in: string;
      packets_out: string;
      bytes_out: string;
    }>(`SELECT packets_in, bytes_in, packets_out, bytes_out FROM connections WHERE client_id = 'counted'`);
    assert.deepEqual([row?.packets_in, row?.bytes_in, row?.packets_out, row?.bytes_out].map(Number), all);
  });

  test('the RTT of a tunnel over HTTP/2 is that of the probes through it', async () => {
    const { peer, tunnel } = await Http2Peer.open(node.target, token);
    const rtt = async () =>
      sumOf(await scrape(`${node.cluster.controlPlaneUrl}/metrics`), 'masque_vpn_rtt_ms', { client_id: 'tester' });
    await waitFor(async () => (await rtt()) > 0, { timeoutMs: TIMEOUT_MS, what: 'an RTT' });
    assert.ok((await rtt()) < 1_000);
    assert.equal(tunnel.closed, undefined);
    peer.close();
  });

  test('item 15 the one that vanished is idle after thirty seconds without an answer to a ping', async () => {
    const left = IDLE_TIMEOUT_MS - (performance.now() - vanished.since);
    const ended = await waitFor(
      async () => {
        const [row] = await node.cluster.sql<{ reason: string }>(
          `SELECT reason FROM connections WHERE client_id = 'vanishing' AND state = 'closed'`,
        );
        return row;
      },
      { timeoutMs: Math.max(0, left) + TIMEOUT_MS, what: 'the end of the vanished one' },
    );
    assert.equal(ended.reason, 'idle');
    vanished.peer.close();
  });

  test('all the while the other client lost no packet and kept its connection', async () => {
    await node.assertUndisturbed();
    for (const table of ['dead_letter', 'event_gaps', 'address_conflicts']) {
      assert.deepEqual(await node.cluster.sql(`SELECT * FROM ${table}`), [], table);
    }
  });
});
