import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import type { ConnectIpProtocol } from '../../../data-plane/masque/connect-ip-request.ts';
import { encodeRouteAdvertisement, routeAllows } from '../../../data-plane/masque/route-advertisement.ts';
import { commonPrefixes, TunnelScope } from '../../../data-plane/tunnel/scope.ts';
import { type AddressFamily, addressToBytes, type IpAddress, parseAddress } from '../../../shared/ip/address.ts';
import { formatPrefix, type IpPrefix, parsePrefix, prefixContains } from '../../../shared/ip/prefix.ts';
import { embed, packet, withExtensions } from '../ip/sample-packets.ts';

const TCP = 6;
const UDP = 17;
const EVERYWHERE = ['0.0.0.0/0', '::/0'];
const CLIENT = { 4: '10.99.0.7', 6: 'fd00:99::7' } as const;
const bytesOf = (text: string): Uint8Array => addressToBytes(parseAddress(text));

function scopeOf(targets: readonly string[] | null, protocol: ConnectIpProtocol = 'any', advertised = EVERYWHERE) {
  return new TunnelScope({
    targets: targets?.map(parsePrefix) ?? null,
    protocol,
    advertised: advertised.map(parsePrefix),
  });
}

const info = createPacketInfo();
function check(scope: TunnelScope, way: 'up' | 'down', whole: Uint8Array): string {
  const { buffer, offset } = embed(whole);
  assert.equal(inspectPacket(buffer, offset, whole.length, info), 'ok');
  return way === 'up' ? scope.checkUplink(buffer, offset, info) : scope.checkDownlink(buffer, offset, info);
}

function between(from: string, to: string, protocol: number, payload: Uint8Array = new Uint8Array(16)): Uint8Array {
  return packet({
    family: from.includes(':') ? 6 : 4,
    source: bytesOf(from),
    destination: bytesOf(to),
    protocol,
    payload,
  });
}
const up = (scope: TunnelScope, to: string, protocol = UDP) =>
  check(scope, 'up', between(CLIENT[to.includes(':') ? 6 : 4], to, protocol));
const down = (scope: TunnelScope, from: string, protocol = UDP, payload?: Uint8Array) =>
  check(scope, 'down', between(from, CLIENT[from.includes(':') ? 6 : 4], protocol, payload));

suite('9484-4.6 the scope of a tunnel', () => {
  test('a target lets packets to it and from it pass, and no others', () => {
    const scope = scopeOf(['192.0.2.0/25', '2001:db8::1/128']);
    for (const pass of [up, down]) {
      for (const inside of ['192.0.2.0', '192.0.2.127', '2001:db8::1'])
        assert.equal(pass(scope, inside), 'inside', inside);
      for (const outside of ['192.0.2.128', '192.0.1.255', '2001:db8::2', '::']) {
        assert.equal(pass(scope, outside), 'address', outside);
      }
    }
  });

  test('a target of one family shuts the other out', () => {
    for (const pass of [up, down]) {
      assert.equal(pass(scopeOf(['0.0.0.0/0']), '2001:db8::1'), 'address');
      assert.equal(pass(scopeOf(['::/0']), '192.0.2.1'), 'address');
    }
  });

  test('a protocol lets only itself and ICMP of the family pass, both ways', () => {
    const scope = scopeOf(null, TCP);
    for (const pass of [up, down]) {
      for (const peer of ['192.0.2.1', '2001:db8::1']) {
        assert.equal(pass(scope, peer, TCP), 'inside');
        for (const other of [UDP, 0x2f, 50, 59, 132]) assert.equal(pass(scope, peer, other), 'protocol', `${other}`);
      }
      assert.deepEqual([pass(scope, '192.0.2.1', 1), pass(scope, '2001:db8::1', 58)], ['inside', 'inside']);
      assert.deepEqual([pass(scope, '192.0.2.1', 58), pass(scope, '2001:db8::1', 1)], ['protocol', 'protocol']);
    }
  });

  test('item 28 extension headers do not hide the protocol', () => {
    const padding = Uint8Array.of(0, 1, 4, 0, 0, 0, 0);
    const chain = [
      [0, padding],
      [60, padding],
    ] as const;
    for (const way of ['up', 'down'] as const) {
      assert.equal(check(scopeOf(null, TCP), way, withExtensions(chain, TCP, new Uint8Array(20))), 'inside');
      assert.equal(check(scopeOf(null, TCP), way, withExtensions(chain, UDP, new Uint8Array(20))), 'protocol');
      assert.equal(check(scopeOf(null, 60), way, withExtensions(chain, UDP, new Uint8Array(20))), 'protocol');
    }
  });

  test('item 28 without a scope the advertised routes limit where packets go, not where they come from', () => {
    const scope = scopeOf(null, 'any', ['10.0.0.0/8']);
    assert.deepEqual(
      [up(scope, '10.1.2.3'), up(scope, '11.0.0.0'), up(scope, '2001:db8::1')],
      ['inside', 'address', 'address'],
    );
    assert.deepEqual([down(scope, '11.0.0.0'), down(scope, '2001:db8::1')], ['inside', 'inside']);
  });

  test("item 34 errors about the client's packets come from anywhere on their way; pings and routing advice do not", () => {
    const scope = scopeOf(['192.0.2.1/32', '2001:db8::1/128'], TCP);
    const icmp = (type: number) => Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0);
    for (const type of [3, 11, 12]) assert.equal(down(scope, '198.51.100.1', 1, icmp(type)), 'inside', `${type}`);
    for (const type of [0, 4, 5, 8, 9]) assert.equal(down(scope, '198.51.100.1', 1, icmp(type)), 'address', `${type}`);
    for (const type of [1, 2, 3, 4]) assert.equal(down(scope, '2001:db8::2', 58, icmp(type)), 'inside', `${type}`);
    for (const type of [128, 129, 134, 137])
      assert.equal(down(scope, '2001:db8::2', 58, icmp(type)), 'address', `${type}`);
    assert.equal(down(scope, '198.51.100.1', 1, new Uint8Array(0)), 'address');
    assert.equal(down(scope, '198.51.100.1', UDP, icmp(3)), 'protocol');
    assert.equal(up(scope, '198.51.100.1', 1), 'address');
  });

  test('a target outside of the routes leaves nothing', () => {
    const scope = scopeOf(['203.0.113.0/24'], 'any', ['10.0.0.0/8']);
    assert.deepEqual(scope.routes(new Set([4, 6])), []);
    assert.deepEqual([up(scope, '203.0.113.1'), up(scope, '10.0.0.1')], ['address', 'address']);
  });
});

// Few bits decide, so that prefixes meet often.
const anyAddress = fc
  .tuple(fc.constantFrom<AddressFamily>(4, 6), fc.nat(15), fc.nat(15))
  .map(([family, high, low]): IpAddress => {
    const bits = family === 4 ? 32n : 128n;
    return { family, value: (BigInt(high) << (bits - 4n)) | BigInt(low) };
  });
const anyPrefix = fc.tuple(anyAddress, fc.nat(32)).map(([{ family, value }, cut]): IpPrefix => {
  const bits = family === 4 ? 32 : 128;
  const length = cut < 6 ? cut : bits - (cut % 5);
  const host = BigInt(bits - length);
  return { address: { family, value: (value >> host) << host }, length };
});
const anyPrefixes = fc.array(anyPrefix, { maxLength: 6 });

suite('properties', () => {
  test('9484-4.7.3 two lists have in common exactly the addresses that are in both, and can always be advertised', () => {
    fc.assert(
      fc.property(anyPrefixes, anyPrefixes, fc.array(anyAddress, { minLength: 20, maxLength: 20 }), (a, b, probes) => {
        const common = commonPrefixes(a, b);
        const within = (list: readonly IpPrefix[], address: IpAddress) =>
          list.some((one) => prefixContains(one, address));
        for (const address of [...probes, ...[...a, ...b].map((prefix) => prefix.address)]) {
          assert.equal(within(common, address), within(a, address) && within(b, address));
        }
        encodeRouteAdvertisement(
          new TunnelScope({ targets: a, protocol: 'any', advertised: b }).routes(new Set([4, 6])),
        );
        assert.equal(new Set(common.map(formatPrefix)).size, common.length);
      }),
      { numRuns: 500 },
    );
  });

  test('what passes up is what was advertised, but for ICMP; and what passes down to a scoped tunnel is its answer', () => {
    const anyProtocol = fc.constantFrom(1, TCP, UDP, 58);
    fc.assert(
      fc.property(
        fc.option(anyPrefixes, { nil: null }),
        fc.constantFrom<ConnectIpProtocol>('any', TCP, UDP, 1),
        anyPrefixes,
        anyAddress,
        anyProtocol,
        (targets, limit, advertised, address, protocol) => {
          const overlapFree = commonPrefixes(advertised, EVERYWHERE.map(parsePrefix));
          const scope = new TunnelScope({ targets, protocol: limit, advertised: overlapFree });
          const isIcmp = protocol === (address.family === 4 ? 1 : 58);
          const routes = scope.routes(new Set([4, 6]));
          const reachable = routes.some(
            (route) => routeAllows(route, address, protocol) || (isIcmp && routeAllows(route, address, route.protocol)),
          );
          const peer = addressToBytes(address);
          const own = bytesOf(CLIENT[address.family]);
          // Echo requests, where it is ICMP.
          const payload = Uint8Array.of(address.family === 4 ? 8 : 128, 0, 0, 0, 0, 0, 0, 0);
          const sample = { family: address.family, protocol, payload };
          const upward = check(scope, 'up', packet({ ...sample, source: own, destination: peer }));
          assert.equal(upward === 'inside', reachable);
          const downward = check(scope, 'down', packet({ ...sample, source: peer, destination: own }));
          if (targets !== null) assert.equal(downward === 'inside', reachable);
          else assert.equal(downward === 'inside', limit === 'any' || limit === protocol || isIcmp);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
