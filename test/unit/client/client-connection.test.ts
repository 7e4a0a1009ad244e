import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, suite, type TestContext, test } from 'node:test';
import { MAX_NETWORKS } from '../../../data-plane/client/tunnel-content.ts';
import { encodeAddressAssign, refusedAddress } from '../../../data-plane/masque/address-assign.ts';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import { encodeRouteAdvertisement, routeToPrefix } from '../../../data-plane/masque/route-advertisement.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';
import { createAuthority } from '../../../deploy/local/certificate.ts';
import { parseAddress } from '../../../shared/ip/address.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { coreThatTakes } from '../../support/core-that-takes.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { concat, frame, headers, hex } from '../http3/recording.ts';
import { packet } from '../ip/sample-packets.ts';
import { REQUEST_STREAM, ScriptedNode, type ScriptOptions } from './scripted-node.ts';

let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
});

const ASSIGNED = encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('10.99.0.7/32') }]);
const ROUTES = encodeRouteAdvertisement([routeToPrefix(parsePrefix('192.0.2.0/24'))]);
const CONFIGURED = { addresses: ['10.99.0.7/32'], routes: ['192.0.2.0/24'] };

function script(t: TestContext, options?: ScriptOptions): ScriptedNode {
  const node = new ScriptedNode(pem, options);
  t.after(() => node.release());
  return node;
}

async function openTunnel(t: TestContext, options?: ScriptOptions): Promise<ScriptedNode> {
  const node = script(t, options);
  await node.request(200);
  node.content(concat(ASSIGNED, ROUTES));
  await node.until(() => node.configured.length > 0, 'the configuration');
  return node;
}

suite('who is no node', () => {
  test('a certificate of another name or authority is refused in words that help', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'mvpn-other-'));
    const other = await createAuthority(directory, 'other');
    rmSync(directory, { recursive: true });
    for (const options of [{ url: 'https://node-b.test/' }, { ca: other.certificate }]) {
      const node = script(t, options);
      await node.until(() => node.ends.length > 0, 'the end of the attempt');
      const words =
        /^the certificate of 127\.0\.0\.1:\d+ was refused: it must come from --ca and have the DNS name of --url$/;
      assert.match(node.ends[0] ?? '', words);
    }
  });

  test("the node's words are passed on when it closes", async (t) => {
    const node = script(t, { onHandshake: (it) => it.close(0x100, 'go away') });
    await node.until(() => node.ends.length > 0, 'the end of the attempt');
    assert.deepEqual(node.ends, ['the connection closed: go away (code 0x100)']);
  });

  test('a port that is closed ends the attempt at once', async (t) => {
    for (const host of ['127.0.0.1', '[::1]']) {
      const socket = UdpSocket.bind(`${host}:0`);
      const serverAddress = socket.localAddress.text;
      socket.close();
      const node = script(t, { serverAddress });
      await node.until(() => node.ends.length > 0, 'the end of the attempt');
      assert.deepEqual(node.ends, [`UDP to ${serverAddress} is refused (ECONNREFUSED)`]);
    }
  });

  for (const [item, settings, words] of [
    ['item 4 a server without extended CONNECT', '3301', /no extended CONNECT/],
    ['item 4 a server without HTTP datagrams', '0801', /no HTTP datagrams/],
    ['item 4 a server that takes no request of our size', '0801 3301 0601', /larger than the 1 bytes/],
  ] as const) {
    test(`${item} gets no request, and the attempt ends`, async (t) => {
      const control = concat(hex('00'), frame(0x04, hex(settings)));
      const node = script(t, { onHandshake: (it) => it.send(3, control) });
      const { reason, code } = await node.end();
      assert.match(reason, words);
      assert.equal(code, '100');
      assert.equal(node.received.has(REQUEST_STREAM), false);
    });
  }
});

suite('answers to the request', () => {
  test('item 14 a tunnel opens with 200, also after interim responses', async (t) => {
    const node = script(t);
    await node.request();
    node.send(REQUEST_STREAM, concat(headers([[':status', '100']]), headers([[':status', '103']])));
    node.send(REQUEST_STREAM, headers([[':status', '200']]));
    node.content(concat(ASSIGNED, ROUTES));
    await node.until(() => node.configured.length > 0, 'the configuration');
    assert.deepEqual(node.configured, [CONFIGURED]);
    assert.deepEqual(node.ends, []);
  });

  for (const [item, lines, words, code] of [
    ['item 14 101', [[':status', '101']], /101/, '10e'],
    ['item 14 204', [[':status', '204']], /status 204 cannot open a tunnel/, '10e'],
    [
      'item 14 200 with content-length',
      [
        [':status', '200'],
        ['content-length', '0'],
      ],
      /content-length in the response/,
      '10e',
    ],
    ['item 8 401', [[':status', '401']], /^the node answered 401$/, '100'],
  ] as const) {
    test(`${item} ends the attempt with 0x${code}`, async (t) => {
      const node = script(t);
      await node.request();
      node.send(REQUEST_STREAM, headers(lines));
      const end = await node.end();
      assert.match(end.reason, words);
      assert.equal(end.code, code);
    });
  }

  test('item 40 a GOAWAY ahead of the answer ends the attempt, one that spares the request does not', async (t) => {
    const refused = script(t);
    await refused.request();
    refused.send(3, frame(0x07, hex('00')));
    assert.equal((await refused.end()).reason, 'the node goes away');

    const spared = await openTunnel(t);
    spared.send(3, frame(0x07, hex('04')));
    await spared.settled();
    assert.deepEqual(spared.ends, []);
    spared.send(REQUEST_STREAM, new Uint8Array(0), true);
    assert.equal((await spared.end()).reason, 'the node ended the tunnel');
  });
});

suite('the capsules of a node', () => {
  test('items 21, 23 a new list replaces the one before, also by nothing', async (t) => {
    const node = await openTunnel(t);
    node.content(encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('fd00:99::7/128') }]));
    node.content(encodeRouteAdvertisement([routeToPrefix(parsePrefix('2001:db8::/32'))]));
    node.content(concat(encodeAddressAssign([]), encodeRouteAdvertisement([])));
    await node.settled();
    const last = node.configured.slice(-3).map(({ addresses, routes }) => [addresses, routes]);
    assert.deepEqual(last, [
      [['fd00:99::7/128'], ['2001:db8::/32']],
      [[], ['2001:db8::/32']],
      [[], []],
    ]);
  });

  test('item 22 a refused wish is no address', async (t) => {
    const node = await openTunnel(t);
    node.content(encodeAddressAssign([refusedAddress(3n, 4), { requestId: 4n, prefix: parsePrefix('10.99.0.8/32') }]));
    await node.until(() => node.configured.length > 1, 'the configuration');
    assert.deepEqual(node.configured.at(-1)?.addresses, ['10.99.0.8/32']);
  });

  test('item 22 what the node wishes of us is refused, id by id', async (t) => {
    const node = await openTunnel(t);
    const before = node.received.get(REQUEST_STREAM)?.length ?? 0;
    const wishes = [
      { requestId: 9n, prefix: parsePrefix('0.0.0.0/32') },
      { requestId: 12n, prefix: parsePrefix('fd00::/64') },
    ];
    node.content(encodeAddressRequest(wishes));
    const answer = frame(0x00, encodeAddressAssign([refusedAddress(9n, 4), refusedAddress(12n, 6)]));
    await node.until(() => (node.received.get(REQUEST_STREAM)?.length ?? 0) >= before + answer.length, 'the answer');
    assert.deepEqual(node.received.get(REQUEST_STREAM)?.subarray(before), answer);
  });

  const many = Array.from({ length: MAX_NETWORKS + 1 }, (_, i) => ({
    start: parseAddress(`10.${i >> 8}.${i & 255}.0`),
    end: parseAddress(`10.${i >> 8}.${i & 255}.0`),
    protocol: 0,
  }));
  for (const [item, capsules, fin, code] of [
    ['item 24 ADDRESS_ASSIGN of version 5', hex('01 07 00 05 0a630007 20'), false, '10e'],
    ['item 24 the end of the stream inside a capsule', ASSIGNED.subarray(0, 5), true, '10e'],
    ['item 22 ADDRESS_REQUEST without a wish', hex('02 00'), false, '10e'],
    ['item 23 routes in disorder', hex('03 14 04 0a000100 0a0001ff 00 04 0a000000 0a0000ff 00'), false, '10e'],
    ['item 25 a known capsule of 2^62-1 bytes', hex('01 ffffffffffffffff'), false, '107'],
    ['more networks than we set up', encodeRouteAdvertisement(many), false, '107'],
    [
      'more addresses than we set up',
      encodeAddressAssign(
        many.slice(0, 17).map(({ start }) => ({ requestId: 0n, prefix: { address: start, length: 32 } })),
      ),
      false,
      '107',
    ],
  ] as const) {
    test(`${item} ends the tunnel with 0x${code}`, async (t) => {
      const node = await openTunnel(t);
      node.content(capsules, fin);
      assert.equal((await node.end()).code, code);
    });
  }
});

test('item 31 a tunnel with an IPv6 address whose node takes less than 1280 bytes is ended, one of IPv4 alone is not', async (t) => {
  const node = await openTunnel(t, { core: coreThatTakes(1279) });
  node.content(encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('fd00:99::7/128') }]));
  assert.deepEqual(await node.end(), {
    reason: 'the peer takes IP packets of at most 1279 bytes in a datagram, IPv6 needs 1280',
    code: '10c',
  });
  assert.deepEqual(node.configured, [CONFIGURED]);
});

test('item 31 a node that takes 1280 bytes carries IPv6', async (t) => {
  const node = await openTunnel(t, { core: coreThatTakes(1280) });
  node.content(encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('fd00:99::7/128') }]));
  await node.until(() => node.configured.length > 1, 'the configuration');
  await node.settled();
  assert.deepEqual(node.ends, []);
});

suite('what else a node may send', () => {
  test('items 19, 20, 26 packets come in datagrams and capsules, unknown contexts and capsules are passed over', async (t) => {
    const node = await openTunnel(t);
    const sample = packet({ family: 4 });
    node.datagram(concat(hex('00 00'), sample));
    node.datagram(concat(hex('00 02'), sample));
    node.datagram(hex('00'));
    node.datagram(concat(hex('01 00'), sample));
    for (const byte of concat(hex('17 02 ffff'), encodeDatagramCapsule(concat(hex('00'), sample)))) {
      node.content(Uint8Array.of(byte));
    }
    await node.until(() => node.packets.length === 2, 'both packets');
    await node.settled();
    assert.deepEqual(node.packets, [Buffer.from(sample), Buffer.from(sample)]);
    assert.deepEqual(node.ends, []);
  });

  test('item 17 datagrams ahead of the answer are dropped', async (t) => {
    const node = script(t);
    await node.request();
    node.datagram(concat(hex('00 00'), packet({ family: 4 })));
    await node.request(200);
    node.content(concat(ASSIGNED, ROUTES));
    await node.until(() => node.configured.length > 0, 'the configuration');
    assert.deepEqual(node.packets, []);
  });

  for (const [item, streamId, bytes, code] of [
    ['item 5 a push stream', 7, hex('01 00'), '108'],
    ['item 5 a bidirectional stream', 1, hex('00'), '103'],
    ['input 2 a second control stream', 7, hex('00'), '103'],
    ['input 27 trailers', REQUEST_STREAM, headers([['a', 'b']]), '105'],
    ['item 40 a GOAWAY for a stream that is no request', 3, frame(0x07, hex('01')), '108'],
  ] as const) {
    test(`${item} ends the connection with 0x${code}`, async (t) => {
      const node = await openTunnel(t);
      node.send(streamId, bytes);
      assert.equal((await node.end()).code, code);
    });
  }

  test('item 40 a GOAWAY that rises ends the connection with 0x108', async (t) => {
    const node = await openTunnel(t);
    node.send(3, concat(frame(0x07, hex('04')), frame(0x07, hex('08'))));
    assert.equal((await node.end()).code, '108');
  });

  test('items 5, 6 unknown streams and frames are passed over', async (t) => {
    const node = await openTunnel(t);
    node.send(7, hex('21 ffff'));
    node.reset(7, 0x100);
    node.send(11, hex('40'), true);
    node.send(3, frame(0x21, hex('00')));
    node.send(REQUEST_STREAM, frame(0x21, hex('0102')));
    await node.settled();
    assert.deepEqual(node.ends, []);
  });

  test('item 15 a reset ends the tunnel', async (t) => {
    const node = await openTunnel(t);
    node.reset(REQUEST_STREAM, 0x10c);
    assert.equal((await node.end()).reason, 'the node reset the tunnel (code 0x10c)');
  });
});

test('item 4 the client says that it takes datagrams, and sends none before the answer', async (t) => {
  const node = script(t);
  await node.request();
  const sample = packet({ family: 4 });
  assert.equal(node.client.sendPacket(sample, 0, sample.length), false);
  const control = node.received.get(2) ?? new Uint8Array(0);
  assert.ok(Buffer.from(control).includes(Buffer.from(hex('3301'))), 'H3_DATAGRAM');
  await node.request(200);
  node.content(concat(ASSIGNED, ROUTES));
  await node.until(() => node.configured.length > 0, 'the configuration');
  assert.equal(node.client.sendPacket(sample, 0, sample.length), true);
  await node.until(() => node.datagrams.length > 0, 'the packet');
  assert.deepEqual(node.datagrams, [Buffer.from(concat(hex('00 00'), sample))]);
});
