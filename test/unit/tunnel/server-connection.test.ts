import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { maxPacketBytes } from '../../../data-plane/tunnel/send-packet.ts';
import { MAX_TUNNEL_MTU, MIN_TUNNEL_MTU } from '../../../data-plane/tunnel/tunnel-mtu.ts';
import { formatAddress } from '../../../shared/ip/address.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { coreThatTakes } from '../../support/core-that-takes.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { CONNECT_IP, concat, frame, headers, hex } from '../http3/recording.ts';
import { packet } from '../ip/sample-packets.ts';
import { ADDRESSES, CONNECTION_ID, TunnelPair } from './tunnel-pair.ts';

let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
});
const IDLE_MS = 10_001;
const sample = packet({ family: 4, source: Uint8Array.of(10, 99, 0, 7) });

suite('a tunnel from its request to its end', () => {
  test('items 21, 23 the answer leaves when the decision is there: 200, addresses, the routes of their families', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.request('secret');
    assert.deepEqual(pair.host.requests, [{ id: 1, token: 'secret' }]);
    assert.deepEqual(pair.client.log, []);
    assert.equal(pair.accept(), true);
    assert.deepEqual(pair.client.log, [
      `response ${streamId} 200`,
      'assigned 0=10.99.0.7/32,0=fd00:99::7/128',
      'routes 3',
    ]);
    assert.deepEqual(pair.host.opened, [CONNECTION_ID]);
  });

  test('packets pass both ways, whole', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    assert.equal(pair.sendUp(streamId, sample), true);
    assert.deepEqual(pair.host.up, [Buffer.from(sample)]);
    assert.equal(pair.host.closed.length, 0);
  });

  test('items 22, 26 wishes that came ahead of the answer are answered in the first assignment, unknown ones refused', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.request();
    const wishes = [
      { requestId: 5n, prefix: parsePrefix('0.0.0.0/32') },
      { requestId: 6n, prefix: parsePrefix('::/128') },
    ];
    pair.client.http3.sendData(streamId, encodeAddressRequest(wishes));
    pair.exchange();
    pair.accept();
    assert.equal(pair.client.log[1], 'assigned 5=10.99.0.7/32,6=fd00:99::7/128');
  });

  test('item 22 wishes that come along with the request are told with it; any address, or a network, is no such wish', () => {
    const pair = new TunnelPair(pem);
    const wishes = ['10.99.0.9/32', '0.0.0.0/32', '10.98.0.0/16', 'fd00:99::9/128'].map((text, i) => ({
      requestId: BigInt(i + 1),
      prefix: parsePrefix(text),
    }));
    pair.raw(
      0,
      concat(headers([...CONNECT_IP, ['authorization', 'Bearer t']]), frame(0x00, encodeAddressRequest(wishes))),
    );
    assert.deepEqual(pair.host.wishes, [['10.99.0.9', 'fd00:99::9']]);
  });

  test('item 22 an address answers one wish, the one that names it if there is such; the others are refused', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    const wishes = ['10.99.0.7/32', '10.99.0.8/32', '0.0.0.0/32', 'fd00:99::7/128'].map((text, i) => ({
      requestId: BigInt(i + 1),
      prefix: parsePrefix(text),
    }));
    pair.client.http3.sendData(streamId, encodeAddressRequest(wishes));
    pair.exchange();
    assert.deepEqual(pair.client.log, ['assigned 1=10.99.0.7/32,2=0.0.0.0/32,3=0.0.0.0/32,4=fd00:99::7/128']);
    pair.client.http3.sendData(streamId, encodeAddressRequest([{ requestId: 9n, prefix: parsePrefix('::/128') }]));
    pair.exchange();
    assert.equal(pair.client.log[1], 'assigned 9=fd00:99::7/128,0=10.99.0.7/32');
  });

  test('item 8 a request to a name that the node does not go by is misdirected: 421, and the connection serves the next one', () => {
    const pair = new TunnelPair(pem);
    pair.host.authorities.push('vpn.example');
    const streamId = pair.request();
    assert.deepEqual(pair.client.log, [`response ${streamId} 421`, `end ${streamId}`]);
    assert.deepEqual(
      pair.host.failures.map(({ status, reason }) => `${status}: ${reason}`),
      ['421: :authority is not served here'],
    );
    pair.host.authorities.push('node-a.test:4433');
    pair.request();
    assert.equal(pair.host.requests.length, 1);
  });

  test('item 15 the end of the stream ends the tunnel once, both ways', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    pair.client.http3.endStream(streamId);
    pair.exchange();
    assert.deepEqual(
      pair.host.closed.map(({ reason, detail }) => `${reason}: ${detail}`),
      ['client: end of stream'],
    );
    assert.deepEqual(pair.client.log, [`end ${streamId}`]);
    pair.client.quic.closeConnection(0, 0x100, 'bye');
    pair.exchange();
    assert.equal(pair.host.closed.length, 1);
  });

  test('item 15 a reset and a closed connection end it too', async () => {
    const reset = new TunnelPair(pem);
    reset.client.http3.abortStream(reset.open(), 0x10c);
    reset.exchange();
    assert.deepEqual(
      reset.host.closed.map(({ reason, detail }) => `${reason}: ${detail}`),
      ['client: reset, code 0x10c'],
    );
    const closed = new TunnelPair(pem);
    closed.open();
    await closed.closeFromClient('bye');
    assert.deepEqual(
      closed.host.closed.map(({ reason, detail }) => `${reason}: ${detail}`),
      ['client: bye, code 0x100'],
    );
  });

  test('a client that left before the decision leaves its request, and the decision finds nobody', () => {
    const pair = new TunnelPair(pem);
    pair.client.http3.abortStream(pair.request(), 0x10c);
    pair.exchange();
    assert.deepEqual(pair.host.abandoned, [1]);
    assert.equal(pair.accept(), false);
    assert.deepEqual([pair.host.opened, pair.host.closed], [[], []]);
  });

  test('two tunnels on one connection are apart', () => {
    const pair = new TunnelPair(pem);
    const first = pair.open();
    const second = pair.open();
    assert.notEqual(first, second);
    pair.client.http3.abortStream(first, 0x10c);
    pair.exchange();
    assert.equal(pair.sendUp(second, sample), true);
    assert.equal(pair.host.up.length, 1);
    assert.equal(pair.host.closed.length, 1);
  });

  test('item 40 a drain ends what is open, says so, and lets nobody in', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    pair.host.draining = true;
    pair.connection.drain('the node stops');
    pair.exchange();
    assert.deepEqual(pair.client.log, ['goaway', 'goaway', `end ${streamId}`]);
    assert.equal(pair.host.closed[0]?.reason, 'drained');
    assert.throws(() => pair.request(), { code: 'H3_GOING_AWAY' });
  });

  test('a drain answers 503 to what is not decided yet', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.request();
    pair.host.draining = true;
    pair.connection.drain('the node stops');
    pair.exchange();
    assert.deepEqual(pair.client.log, ['goaway', 'goaway', `response ${streamId} 503`, `end ${streamId}`]);
    assert.deepEqual([pair.host.abandoned, pair.host.closed], [[1], []]);
    assert.equal(pair.accept(), false);
  });

  test('a core that aborts ends all tunnels with an error', () => {
    const pair = new TunnelPair(pem);
    pair.open();
    pair.connection.lost('the core aborted');
    assert.deepEqual([pair.host.closed[0]?.reason, pair.host.closed[0]?.detail], ['error', 'the core aborted']);
  });
});

test('items 1, 5 a client may open unidirectional streams beyond its three, with a kilobyte and more on each', () => {
  const pair = new TunnelPair(pem);
  const streamId = pair.open();
  for (const unknown of [14, 18, 22]) pair.raw(unknown, concat(hex('21'), new Uint8Array(2_000)));
  assert.equal(pair.sendUp(streamId, sample), true);
  assert.deepEqual([pair.host.up.length, pair.host.closed], [1, []]);
});

suite('who gets no tunnel', () => {
  test('item 8 a refused token: its status, and nothing of the tunnel stays', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.request('wrong');
    pair.connection.reject(1, 401);
    pair.exchange();
    assert.equal(pair.client.log[0], `response ${streamId} 401 Bearer`);
    assert.equal(pair.sendUp(streamId, sample), true);
    assert.deepEqual([pair.host.up, pair.host.closed, pair.host.opened], [[], [], []]);
    // The node's main thread counts it, and this thread does not count it again.
    assert.deepEqual(pair.host.failures, []);
  });

  const refusals: readonly (readonly [string, readonly (readonly [string, string])[], number])[] = [
    ['a wrong path', [[':path', '/elsewhere']], 404],
    ['an unknown protocol', [[':protocol', 'connect-udp']], 501],
    ['a scope of an extension header', [[':path', '/.well-known/masque/ip/*/44/']], 501],
    ['a scope that is none', [[':path', '/.well-known/masque/ip/10.0.0.1%2F24/17/']], 400],
    ['a scheme that is not https', [[':scheme', 'http']], 400],
  ];
  for (const [what, changes, status] of refusals) {
    test(`${what}: ${status}, one failure, and the connection lives`, () => {
      const pair = new TunnelPair(pem);
      const changed = new Map(changes);
      pair.raw(0, headers(CONNECT_IP.map(([name, value]) => [name, changed.get(name) ?? value])));
      assert.deepEqual(
        pair.host.failures.map((failure) => [failure.status, failure.errorType, failure.remoteAddress]),
        [[status, 'connection', '198.51.100.7']],
      );
      pair.raw(4, headers([...CONNECT_IP, ['authorization', 'Bearer t']]));
      assert.deepEqual(pair.host.requests, [{ id: 1, token: 't' }]);
    });
  }

  test('while the node drains: 503', () => {
    const pair = new TunnelPair(pem);
    pair.host.draining = true;
    const streamId = pair.request();
    assert.equal(pair.client.log[0], `response ${streamId} 503`);
    assert.deepEqual(pair.host.requests, []);
    assert.equal(pair.host.failures[0]?.status, 503);
  });

  test('a broken connection without a tunnel is one failure, with status 0', async () => {
    for (const [what, streamId, bytes, code] of [
      ['a second control stream', 6, hex('00'), '0x103'],
      ['DATA as the first frame', 0, frame(0x00, hex('aa')), '0x105'],
      ['a frame that HTTP/2 had', 0, frame(0x06, hex('0000')), '0x105'],
      ['SETTINGS on a request stream', 0, frame(0x04, hex('')), '0x105'],
      ['a field section that needs a dynamic table', 0, frame(0x01, hex('0200c0')), '0x200'],
    ] as const) {
      const pair = new TunnelPair(pem);
      // The client's own HTTP/3 has opened streams 2, 6 and 10 already.
      pair.raw(streamId === 6 ? 14 : streamId, bytes);
      assert.match(await pair.clientClosed(), new RegExp(`^closed ${code} `), what);
      assert.deepEqual(
        pair.host.failures.map(({ status, errorType }) => [status, errorType]),
        [[0, 'connection']],
        what,
      );
    }
  });

  test('a broken connection with a tunnel ends the tunnel with an error, and is no failed attempt', () => {
    const pair = new TunnelPair(pem);
    pair.open();
    pair.raw(14, hex('00'));
    assert.deepEqual([pair.host.closed[0]?.reason, pair.host.failures], ['error', []]);
  });

  test('a malformed request costs its stream alone and counts once', () => {
    const pair = new TunnelPair(pem);
    pair.raw(0, headers([...CONNECT_IP, ['content-length', '0']]));
    pair.raw(4, headers(CONNECT_IP.filter(([name]) => name !== ':path')));
    pair.raw(8, headers([...CONNECT_IP, ['authorization', 'Bearer t']]));
    assert.deepEqual(
      pair.host.failures.map(({ status }) => status),
      [400, 0],
    );
    assert.equal(pair.host.requests.length, 1);
  });
});

suite('scoped requests', () => {
  const path = (target: string, protocol: string) => `/.well-known/masque/ip/${target}/${protocol}/`;

  test('9484-4.6 the request is told as it is, and what may flow is advertised: the common part of scope and routes', () => {
    for (const [target, protocol, scope, routes] of [
      [
        '*',
        '6',
        { targets: null, protocol: 6 },
        ['192.0.2.0-192.0.2.255 6', '2001:db8::', '10.99.0.0-10.99.255.255 6'],
      ],
      ['192.0.2.7', '*', { targets: ['192.0.2.7/32'], protocol: 'any' }, ['192.0.2.7-192.0.2.7 0']],
      ['192.0.0.0%2F16', '17', { targets: ['192.0.0.0/16'], protocol: 17 }, ['192.0.2.0-192.0.2.255 17']],
      [
        'files.example',
        '*',
        { targets: ['192.0.2.9/32', '203.0.113.1/32'], protocol: 'any' },
        ['192.0.2.9-192.0.2.9 0'],
      ],
    ] as const) {
      const pair = new TunnelPair(pem);
      pair.request('token', path(target, protocol));
      const [asked] = pair.host.scopes;
      const kind = target === '*' ? 'any' : target.includes('example') ? 'hostname' : 'prefix';
      assert.deepEqual([asked?.target.kind, asked?.protocol], [kind, scope.protocol]);
      pair.accept(scope);
      const told = pair.client.routes.map(
        (route) => `${formatAddress(route.start)}-${formatAddress(route.end)} ${route.protocol}`,
      );
      assert.equal(told.length, routes.length);
      for (const expected of routes)
        assert.ok(
          told.some((one) => one.startsWith(expected)),
          `${told}`,
        );
    }
  });

  test('item 12 a target that cannot be reached is refused with Proxy-Status, and the connection lives', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.request('token', path('nowhere.example', '*'));
    pair.connection.reject(1, 502, 'dns_error');
    pair.exchange();
    assert.deepEqual(pair.client.log, [`response ${streamId} 502 masque-vpn; error=dns_error`, `end ${streamId}`]);
    pair.open();
    assert.equal(pair.host.opened.length, 1);
  });
});

suite('capsules and datagrams', () => {
  test('item 24 a broken or oversized capsule ends its tunnel with an error', () => {
    for (const [bytes, code] of [
      [encodeCapsule(0x02, hex('')), '0x10e'],
      [encodeCapsule(0x01, hex('00 05 0a630007 20')), '0x10e'],
      [hex('01 ffffffffffffffff'), '0x107'],
      [hex('03 80010001'), '0x107'],
    ] as const) {
      const pair = new TunnelPair(pem);
      const streamId = pair.open();
      pair.raw(streamId, frame(0x00, bytes));
      assert.deepEqual(pair.client.log, [`reset ${streamId} ${code}`]);
      assert.equal(pair.host.closed[0]?.reason, 'error');
    }
  });

  test('input 48 a reset in the middle of a capsule ends the tunnel, and its addresses with it', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    pair.raw(streamId, frame(0x00, encodeCapsule(0x02, hex('01 04 00000000 20')).subarray(0, 5)));
    assert.equal(pair.host.closed.length, 0);
    pair.client.quic.resetStream(0, streamId, 0x10c);
    pair.exchange();
    assert.deepEqual(
      pair.host.closed.map(({ connectionId, reason }) => [connectionId, reason]),
      [[CONNECTION_ID, 'client']],
    );
  });

  test('item 25 unknown capsules are read over, however long', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    const capsule = concat(hex('2b 80100000'), new Uint8Array(0x100000));
    for (let at = 0; at < capsule.length; at += 65_536) {
      pair.raw(streamId, frame(0x00, capsule.subarray(at, at + 65_536)));
    }
    pair.sendUp(streamId, sample);
    assert.equal(pair.host.up.length, 1);
  });

  test('item 20 a packet in a DATAGRAM capsule goes the same way as one in a datagram', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    pair.raw(streamId, frame(0x00, encodeCapsule(0x00, concat(hex('00'), sample))));
    assert.deepEqual(pair.host.up, [Buffer.from(sample)]);
  });

  test('item 19 datagrams that belong to no tunnel are counted and dropped', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    const quarter = streamId / 4;
    pair.datagram(quarter + 1, 0, 0x45);
    pair.datagram(quarter, 2, 0x45);
    pair.datagram(quarter);
    const { no_tunnel, unknown_context, malformed } = pair.host.drops.snapshot();
    assert.deepEqual({ no_tunnel, unknown_context, malformed }, { no_tunnel: 1, unknown_context: 1, malformed: 1 });
    assert.deepEqual([pair.host.up, pair.host.closed], [[], []]);
  });

  test('item 17 a datagram ahead of the decision is dropped, not kept', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.request();
    pair.sendUp(streamId, sample);
    pair.accept();
    assert.deepEqual(pair.host.up, []);
    assert.equal(pair.host.drops.snapshot().no_tunnel, 1);
  });

  test('item 16 a datagram whose stream id is none closes the connection', async () => {
    const pair = new TunnelPair(pem);
    pair.open();
    pair.datagram(0xd0, 0, 0, 0, 0, 0, 0, 0);
    assert.match(await pair.clientClosed(), /^closed 0x33 /);
    assert.equal(pair.host.closed[0]?.reason, 'error');
  });
});

suite('sizes', () => {
  test('item 31 a packet of 1280 bytes, which every IPv6 link must carry, fits, and so does the largest MTU', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    for (const length of [MIN_TUNNEL_MTU, MAX_TUNNEL_MTU]) {
      const whole = packet({ family: 6, payload: new Uint8Array(length - 40) });
      assert.equal(pair.sendUp(streamId, whole), true);
      assert.deepEqual(pair.host.up.pop(), Buffer.from(whole));
    }
    assert.equal(MIN_TUNNEL_MTU, 1280);
  });

  test('item 31 a client that takes less than 1280 bytes gets no IPv6: its tunnel is aborted, and says why', () => {
    const pair = new TunnelPair(pem, coreThatTakes(1279));
    const streamId = pair.request();
    pair.accept();
    assert.deepEqual(pair.client.log, [`reset ${streamId} 0x10c`]);
    const { reason, detail } = pair.host.closed[0] ?? {};
    assert.deepEqual(
      { reason, detail },
      {
        reason: 'error',
        detail: 'the peer takes IP packets of at most 1279 bytes in a datagram, IPv6 needs 1280',
      },
    );
  });

  test('items 31, 32 one that takes 1280 bytes keeps its tunnel, and the node knows what to tell the senders of more', () => {
    const pair = new TunnelPair(pem, coreThatTakes(1280));
    pair.open();
    assert.deepEqual(pair.client.log, []);
    assert.equal(pair.host.tunnel?.transport.maxPacketBytes, 1280);
    for (const [length, sent] of [
      [1280, true],
      [1281, false],
    ] as const) {
      assert.equal(pair.host.tunnel?.transport.sendPacket(new Uint8Array(length), 0, length), sent);
    }
    pair.exchange();
    assert.deepEqual(
      pair.client.down.map(({ length }) => length),
      [1280],
    );
    assert.deepEqual(pair.host.closed, []);
  });

  test('items 31, 32 a tunnel of IPv4 alone goes on with what its client takes', () => {
    const pair = new TunnelPair(pem, coreThatTakes(600));
    pair.request();
    pair.accept({ targets: null, protocol: 'any' }, ADDRESSES.slice(0, 1));
    assert.equal(pair.host.tunnel?.transport.maxPacketBytes, 600);
    assert.equal(pair.host.tunnel?.transport.sendPacket(new Uint8Array(600), 0, 600), true);
    pair.exchange();
    assert.equal(pair.client.down.length, 1);
    assert.deepEqual(pair.host.closed, []);
  });

  test('item 31 a full queue is not taken for a client that takes little: it is asked again', () => {
    const pair = new TunnelPair(pem, coreThatTakes(1279));
    pair.request();
    pair.accept({ targets: null, protocol: 'any' }, ADDRESSES.slice(0, 1));
    const other = pair.host.tunnel;
    const streamId = pair.request();
    while (other?.transport.sendPacket(sample, 0, sample.length)) {}
    pair.accept();
    assert.notEqual(pair.host.tunnel, other);
    assert.equal(pair.host.closed.length, 0);
    pair.host.tunnel?.probe(0);
    pair.exchange();
    assert.match(pair.host.closed[0]?.detail ?? '', /IPv6 needs 1280$/);
    assert.equal(pair.client.resets.get(streamId), 0x10c);
  });

  test('item 32 what fits into a datagram depends on the stream: exactly that is sent, and a byte more is not', () => {
    const pair = new TunnelPair(pem);
    for (let streamId = pair.open(); streamId <= 256; streamId = pair.open()) {
      const most = maxPacketBytes(streamId);
      assert.equal(most, streamId < 256 ? MAX_TUNNEL_MTU : MAX_TUNNEL_MTU - 1);
      if (streamId % 64 === 0) {
        assert.equal(pair.sendUp(streamId, packet({ family: 4, payload: new Uint8Array(most - 20) })), true);
        assert.equal(pair.host.up.pop()?.length, most);
        assert.equal(pair.sendUp(streamId, packet({ family: 4, payload: new Uint8Array(most - 19) })), false);
      }
      pair.client.http3.endStream(streamId);
      pair.exchange();
    }
  });
});

suite('peers that do nothing', () => {
  test('a connection without a request is closed after ten seconds', async () => {
    const pair = new TunnelPair(pem);
    pair.connection.sweep(performance.now() + IDLE_MS - 100);
    pair.exchange();
    assert.deepEqual(pair.client.log, []);
    pair.connection.sweep(performance.now() + IDLE_MS);
    assert.equal(await pair.clientClosed(), 'closed 0x100 no tunnel');
  });

  test('one with a tunnel is not, however quiet', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    for (let s = 0; s < 100; s++) pair.connection.sweep(performance.now() + s * 1_000);
    pair.exchange();
    assert.equal(pair.sendUp(streamId, sample), true);
    assert.equal(pair.host.up.length, 1);
  });

  test('input 49 a request that never gets whole is aborted and counted, and a tunnel beside it lives', () => {
    const pair = new TunnelPair(pem);
    const streamId = pair.open();
    const half = headers(CONNECT_IP).subarray(0, 10);
    pair.raw(streamId + 4, half);
    pair.connection.sweep(performance.now() + IDLE_MS);
    pair.exchange();
    assert.deepEqual(
      pair.host.failures.map(({ status, reason }) => [status, reason]),
      [[0, 'the request was not whole in time']],
    );
    assert.equal(pair.sendUp(streamId, sample), true);
    assert.equal(pair.host.up.length, 1);
  });

  test('whatever the peer says at its end, the node hears the end', async () => {
    for (const reason of ['a\u0000b', '"quoted" \\ back', '\u2028 line', 'x'.repeat(900)]) {
      const pair = new TunnelPair(pem);
      pair.open();
      await pair.closeFromClient(reason);
      assert.equal(pair.host.closed[0]?.reason, 'client', JSON.stringify(reason));
    }
  });
});
