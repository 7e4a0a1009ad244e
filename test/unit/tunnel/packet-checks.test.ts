import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { AddressTable } from '../../../data-plane/ip/address-table.ts';
import { writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { routeDownlink } from '../../../data-plane/tunnel/downlink.ts';
import { DROP_REASONS, DropCounters, PACKET_ERRORS } from '../../../data-plane/tunnel/drop-counters.ts';
import { answerProbe, EchoProbe, PROBE_INTERVAL_MS } from '../../../data-plane/tunnel/echo-probe.ts';
import { IcmpResponder } from '../../../data-plane/tunnel/icmp-responder.ts';
import { TunnelScope } from '../../../data-plane/tunnel/scope.ts';
import { TrafficCounters } from '../../../data-plane/tunnel/traffic-counters.ts';
import { TunnelSession } from '../../../data-plane/tunnel/tunnel-session.ts';
import { checkUplink } from '../../../data-plane/tunnel/uplink.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { embed, packet } from '../ip/sample-packets.ts';

const CLIENT4 = '10.99.0.7';
const CLIENT6 = 'fd00:99::7';
const NODE4 = '10.99.0.1';
const NODE6 = 'fd00:99::1';
const bytesOf = (text: string): Uint8Array => addressToBytes(parseAddress(text));

function openSession(addresses = [CLIENT4, CLIENT6], advertised = ['0.0.0.0/0', '::/0']): TunnelSession {
  const session = new TunnelSession();
  session.accept(
    { kind: 'accept', connectionId: 'c', clientId: 'client', nowMs: 0 },
    addresses.map((address) => ({ address, nodeAddress: address.includes(':') ? NODE6 : NODE4 })),
    new TunnelScope({ targets: null, protocol: 'any', advertised: advertised.map(parsePrefix) }),
  );
  return session;
}

function ip(from: string, to: string): Uint8Array {
  return packet({ family: from.includes(':') ? 6 : 4, source: bytesOf(from), destination: bytesOf(to) });
}

/** An ICMPv6 message of this type, after destination options where they are asked for. */
function icmpv6(from: string, to: string, type: number, extension?: 60): Uint8Array {
  const message = Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0);
  const payload = extension === undefined ? message : Uint8Array.of(58, 0, 1, 4, 0, 0, 0, 0, ...message);
  return packet({ family: 6, source: bytesOf(from), destination: bytesOf(to), protocol: extension ?? 58, payload });
}

function check(session: TunnelSession, bytes: Uint8Array, length = bytes.length): string {
  const { buffer, offset } = embed(bytes);
  return checkUplink(session, buffer, offset, length);
}

suite('the way up', () => {
  test('item 27 a packet from an assigned address goes on, of either family', () => {
    const session = openSession();
    assert.equal(check(session, ip(CLIENT4, '192.0.2.1')), 'forward');
    assert.equal(check(session, ip(CLIENT6, '2001:db8::1')), 'forward');
  });

  test('item 27 any other source is refused, also a neighbour, the node itself, and the other family', () => {
    const session = openSession();
    for (const source of ['10.99.0.8', '10.99.0.6', NODE4, '0.0.0.0', '127.0.0.1', '255.255.255.255']) {
      assert.equal(check(session, ip(source, '192.0.2.1')), 'source', source);
    }
    for (const source of ['fd00:99::8', NODE6, '::', '::1', '::ffff:10.99.0.7']) {
      assert.equal(check(session, ip(source, '2001:db8::1')), 'source', source);
    }
    assert.equal(check(openSession([CLIENT4]), ip(CLIENT6, '2001:db8::1')), 'source');
    assert.equal(check(new TunnelSession(), ip(CLIENT4, '192.0.2.1')), 'source');
  });

  test('item 33 link-local and multicast destinations are never forwarded', () => {
    const session = openSession();
    for (const destination of ['224.0.0.1', '239.255.255.250', '169.254.1.1', '255.255.255.255']) {
      assert.equal(check(session, ip(CLIENT4, destination)), 'scope', destination);
    }
    for (const destination of ['ff02::1', 'fe80::1', 'febf::1']) {
      assert.equal(check(session, ip(CLIENT6, destination)), 'scope', destination);
    }
  });

  test('items 33, 34 link-local sources are not forwarded, nor answered like a spoofed one', () => {
    const session = openSession();
    assert.equal(check(session, ip('169.254.1.1', '192.0.2.1')), 'scope');
    assert.equal(check(session, ip('fe80::1', '2001:db8::1')), 'scope');
  });

  test('item 33 neighbour discovery and router advertisements end here, behind extension headers too', () => {
    const session = openSession();
    for (const [type, verdict] of [
      [132, 'forward'],
      [133, 'scope'],
      [134, 'scope'],
      [135, 'scope'],
      [136, 'scope'],
      [137, 'scope'],
      [138, 'forward'],
    ] as const) {
      assert.equal(check(session, icmpv6(CLIENT6, '2001:db8::1', type)), verdict, `ICMPv6 ${type}`);
      assert.equal(check(session, icmpv6(CLIENT6, '2001:db8::1', type, 60)), verdict, `ICMPv6 ${type} behind options`);
    }
  });

  test('item 28 what is not advertised is out of reach, and probes are answered all the same', () => {
    const session = openSession([CLIENT4, CLIENT6], ['192.0.2.0/24']);
    assert.equal(check(session, ip(CLIENT4, '192.0.2.255')), 'forward');
    assert.equal(check(session, ip(CLIENT4, '192.0.3.0')), 'no_route');
    assert.equal(check(session, ip(CLIENT4, NODE4)), 'no_route');
    assert.equal(check(session, ip(CLIENT6, '2001:db8::1')), 'no_route');
    const info = createPacketInfo();
    const probe = session.nextProbe(performance.now())?.slice() ?? new Uint8Array();
    assert.equal(inspectPacket(probe, 0, probe.length, info), 'ok');
    assert.equal(check(session, answerProbe(probe, 0, info) ?? new Uint8Array()), 'probe');
  });

  test('item 30 a packet that is cut, or longer than it says, is malformed and nothing else', () => {
    const session = openSession();
    for (const whole of [ip(CLIENT4, '192.0.2.1'), ip(CLIENT6, '2001:db8::1')]) {
      for (let length = 0; length < whole.length; length++) assert.equal(check(session, whole, length), 'malformed');
      assert.equal(check(session, Uint8Array.from([...whole, 0])), 'malformed');
    }
  });

  test('item 27 no bytes get through that do not carry the address of the tunnel', () => {
    const session = openSession();
    const own = [bytesOf(CLIENT4), bytesOf(CLIENT6)];
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc
        .tuple(fc.constantFrom(ip(CLIENT4, '192.0.2.1'), ip(CLIENT6, '2001:db8::1')), fc.nat(39), fc.nat(255))
        .map(([whole, at, value]) => whole.with(at % whole.length, value)),
    );
    fc.assert(
      fc.property(anything, (bytes) => {
        if (check(session, bytes) !== 'forward') return;
        const at = bytes[0]! >>> 4 === 4 ? 12 : 8;
        assert.ok(own.some((address) => address.every((byte, i) => bytes[at + i] === byte)));
      }),
      { numRuns: 500 },
    );
  });
});

test('item 34 packets that get no answer leave the budget to those that do', () => {
  const responder = new IcmpResponder(1280);
  responder.addAddress(NODE4);
  const info = createPacketInfo();
  const session = openSession();
  const answer = (bytes: Uint8Array) => {
    assert.equal(inspectPacket(bytes, 0, bytes.length, info), 'ok');
    return responder.write('no_route', bytes, 0, info, session.icmpRate);
  };
  for (let i = 0; i < 1_000; i++) assert.equal(answer(ip(CLIENT4, '224.0.0.1')), 0);
  for (let i = 0; i < 10; i++) assert.ok(answer(ip(CLIENT4, '203.0.113.1')) > 0);
  assert.equal(answer(ip(CLIENT4, '203.0.113.1')), 0);
});

test('item 34 each client has a budget of ICMP errors of its own', () => {
  const [spoofer, other] = [openSession(), openSession()];
  const answered = Array.from({ length: 1_000 }, () => spoofer.icmpRate.take(0)).filter(Boolean).length;
  assert.equal(answered, 10);
  assert.equal(other.icmpRate.take(0), true);
});

suite('the way down', () => {
  test('the destination finds its tunnel, and nothing else does', () => {
    const sessions = new AddressTable<TunnelSession>();
    const session = openSession();
    for (const address of session.addresses) sessions.set(address, session);
    for (const [from, to, expected] of [
      ['192.0.2.1', CLIENT4, session],
      ['2001:db8::1', CLIENT6, session],
      ['192.0.2.1', '10.99.0.8', 'no_client'],
      ['2001:db8::1', 'fd00:99::8', 'no_client'],
    ] as const) {
      const bytes = ip(from, to);
      assert.equal(routeDownlink(sessions, bytes, 0, bytes.length), expected);
    }
    assert.equal(routeDownlink(sessions, ip('192.0.2.1', CLIENT4), 0, 19), 'ignored');
    for (const address of session.addresses) sessions.delete(address);
    const late = ip('192.0.2.1', CLIENT4);
    assert.equal(routeDownlink(sessions, late, 0, late.length), 'no_client');
  });
});

test('item 33 what is for one link goes to no client, whoever sends it', () => {
  const sessions = new AddressTable<TunnelSession>();
  const session = openSession();
  for (const address of session.addresses) sessions.set(address, session);
  for (const bytes of [
    ip('169.254.1.1', CLIENT4),
    ip('fe80::1', CLIENT6),
    ip('2001:db8::1', 'ff02::1'),
    ip('192.0.2.1', '224.0.0.251'),
    ip('192.0.2.1', '255.255.255.255'),
    icmpv6('2001:db8::1', CLIENT6, 134),
    icmpv6('2001:db8::1', CLIENT6, 136, 60),
  ]) {
    assert.equal(routeDownlink(sessions, bytes, 0, bytes.length), 'ignored');
  }
  const ping = icmpv6('2001:db8::1', CLIENT6, 128);
  assert.equal(routeDownlink(sessions, ping, 0, ping.length), session);
});

suite('echo probes', () => {
  const info = createPacketInfo();
  const inspect = (bytes: Uint8Array) => assert.equal(inspectPacket(bytes, 0, bytes.length, info), 'ok');

  /** The probe of a tunnel with traffic. */
  function next(probe: EchoProbe, nowMs: number): Uint8Array {
    const packet = probe.next(nowMs, true);
    assert.ok(packet);
    return packet;
  }

  /** What the client's side makes of a probe. */
  function answer(probe: Uint8Array): Uint8Array {
    inspect(probe);
    const reply = answerProbe(probe, 0, info);
    assert.ok(reply);
    return reply;
  }

  for (const [node, client] of [
    [NODE4, CLIENT4],
    [NODE6, CLIENT6],
  ] as const) {
    test(`answers settle probes of ${client} with their latency, once`, () => {
      const probe = new EchoProbe(node, client);
      const replies = [0, 500].map((ms) => answer(next(probe, ms).slice()));
      for (const [i, reply] of replies.entries()) {
        inspect(reply);
        assert.equal(probe.takeAnswer(reply, 0, info, i * 500 + 7), true);
        assert.equal(probe.takeAnswer(reply, 0, info, i * 500 + 9), true);
      }
      assert.deepEqual(probe.takeResults(), { sent: 2, answered: 2, latenciesMs: [7, 7] });
      assert.deepEqual(probe.takeResults(), { sent: 0, answered: 0, latenciesMs: [] });
    });
  }

  test('the smoothed latency follows the samples, each with an eighth, and stands for the RTT where the transport has none', () => {
    const probe = new EchoProbe(NODE4, CLIENT4);
    assert.equal(probe.smoothedMs, null);
    const smoothed = [10, 10, 18, 2].map((latencyMs, i) => {
      const reply = answer(next(probe, i * 500).slice());
      inspect(reply);
      probe.takeAnswer(reply, 0, info, i * 500 + latencyMs);
      return probe.smoothedMs;
    });
    assert.deepEqual(smoothed, [10, 10, 11, 9.875]);

    const session = openSession();
    assert.deepEqual([session.endWindow(null)?.rttMs, session.endWindow(5)?.rttMs], [null, 5]);
    const reply = answer(session.nextProbe(performance.now())?.slice() ?? new Uint8Array());
    assert.equal(check(session, reply), 'probe');
    assert.ok((session.endWindow(null)?.rttMs ?? -1) >= 0);
    assert.equal(session.endWindow(5)?.rttMs, 5);
  });

  test('an answer carries the address that was asked, so it passes the source check and ends there', () => {
    const session = openSession();
    const probe = session.nextProbe(performance.now())?.slice();
    assert.ok(probe);
    assert.equal(check(session, answer(probe)), 'probe');
  });

  test('a probe is lost when its time is up; an answer after that counts no more', () => {
    const probe = new EchoProbe(NODE4, CLIENT4);
    const late = answer(next(probe, 0).slice());
    next(probe, 1_999);
    assert.equal(probe.takeResults().sent, 0);
    next(probe, 2_000);
    inspect(late);
    assert.equal(probe.takeAnswer(late, 0, info, 2_001), true);
    assert.deepEqual(probe.takeResults(), { sent: 1, answered: 0, latenciesMs: [] });
  });

  test("the user's own pings, and answers to probes of another tunnel, are traffic", () => {
    const probe = new EchoProbe(NODE4, CLIENT4);
    next(probe, 0);
    const ping = new Uint8Array(84);
    const message = { source: bytesOf(CLIENT4), destination: bytesOf(NODE4), identifier: 1, sequence: 1 };
    writeEcho(ping, 0, { ...message, kind: 'reply', payload: new Uint8Array(56) });
    inspect(ping);
    assert.equal(probe.takeAnswer(ping, 0, info, 1), false);
    assert.equal(answerProbe(ping, 0, info), undefined);
    for (let tries = 0; tries < 3; tries++) {
      // Identifiers are random: the chance that all three are equal is 2^-48.
      const foreign = answer(next(new EchoProbe(NODE4, CLIENT4), 0).slice());
      inspect(foreign);
      if (!probe.takeAnswer(foreign, 0, info, 1)) return;
    }
    assert.fail('answers of other tunnels were taken');
  });

  test('a tunnel with traffic is probed at every tick, one without as often as keeps it alive', () => {
    const ticks = Array.from({ length: 41 }, (_, i) => i * PROBE_INTERVAL_MS);
    const probed = (hasTraffic: (ms: number) => boolean) => {
      const probe = new EchoProbe(NODE4, CLIENT4);
      return ticks.filter((ms) => probe.next(ms, hasTraffic(ms)) !== undefined);
    };
    assert.deepEqual(
      probed(() => true),
      ticks,
    );
    assert.deepEqual(
      probed(() => false),
      [0, 5_000, 10_000, 15_000, 20_000],
    );
    const once = probed((ms) => ms === 7_000);
    assert.deepEqual(once, [0, 5_000, 7_000, 12_000, 17_000]);

    const session = openSession();
    assert.ok(session.nextProbe(0), 'the first');
    assert.equal(session.nextProbe(PROBE_INTERVAL_MS), undefined);
    session.counters.countOut(100);
    assert.ok(session.nextProbe(2 * PROBE_INTERVAL_MS), 'after traffic');
    assert.equal(session.nextProbe(3 * PROBE_INTERVAL_MS), undefined, 'probes are no traffic');
  });

  test('memory stays bounded while nobody answers', () => {
    const probe = new EchoProbe(NODE4, CLIENT4);
    for (let i = 0; i < 200_000; i++) next(probe, i * 500);
    assert.equal(probe.takeResults().sent, 200_000 - 4);
  });
});

suite('counters', () => {
  test('packets and bytes of each direction add up', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(65_535))), (packets) => {
        const counters = new TrafficCounters();
        for (const [up, bytes] of packets) up ? counters.countIn(bytes) : counters.countOut(bytes);
        const sum = (up: boolean) => packets.filter(([u]) => u === up).reduce((total, [, bytes]) => total + bytes, 0);
        assert.deepEqual(counters.totals(), {
          bytesIn: sum(true),
          bytesOut: sum(false),
          packetsIn: packets.filter(([up]) => up).length,
          packetsOut: packets.filter(([up]) => !up).length,
        });
      }),
    );
  });

  test('drops are told apart, and only failed checks are errors', () => {
    const drops = new DropCounters();
    for (const reason of DROP_REASONS) drops.count(reason);
    const before = drops.snapshot();
    drops.count('source');
    assert.deepEqual(drops.snapshot(), { ...before, source: 2 });
    assert.equal(before.source, 1);
    assert.equal(drops.packetErrors, PACKET_ERRORS.length + 1);
  });
});
