import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Http3StreamError } from '../../../data-plane/http3/error-codes.ts';
import { encodeVarint } from '../../../data-plane/http3/varint.ts';
import {
  type AssignedAddress,
  encodeAddressAssign,
  isRefusal,
  parseAddressAssign,
  refusedAddress,
} from '../../../data-plane/masque/address-assign.ts';
import {
  encodeAddressRequest,
  MAX_REQUEST_IDS,
  parseAddressRequest,
  UsedRequestIds,
} from '../../../data-plane/masque/address-request.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { type CapsuleHandler, CapsuleReader } from '../../../data-plane/masque/capsule-reader.ts';
import { MAX_CAPSULE_BYTES } from '../../../data-plane/masque/capsule-treatment.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import {
  encodeRouteAdvertisement,
  type IpRoute,
  parseRouteAdvertisement,
  routeAllows,
  routeToPrefix,
} from '../../../data-plane/masque/route-advertisement.ts';
import { ADDRESS_BITS, type AddressFamily, parseAddress } from '../../../shared/ip/address.ts';
import { formatPrefix, parsePrefix } from '../../../shared/ip/prefix.ts';
import { concat, hex } from '../http3/recording.ts';

/** Everything a reader delivered, as comparable text. */
class Log implements CapsuleHandler {
  readonly lines: string[] = [];

  onAddressAssign(assigned: readonly AssignedAddress[]): void {
    this.lines.push(`assign ${entriesText(assigned)}`);
  }
  onAddressRequest(requested: readonly AssignedAddress[]): void {
    this.lines.push(`request ${entriesText(requested)}`);
  }
  onRouteAdvertisement(routes: readonly IpRoute[]): void {
    this.lines.push(`routes ${routes.length}`);
  }
  onDatagram(payload: Uint8Array): void {
    this.lines.push(`datagram ${Buffer.from(payload).toString('hex')}`);
  }
}

function entriesText(entries: readonly AssignedAddress[]): string {
  return entries.map(({ requestId, prefix }) => `${requestId}=${formatPrefix(prefix)}`).join(' ');
}

function isStreamError(wireCode: number): (error: unknown) => boolean {
  return (error) => error instanceof Http3StreamError && error.wireCode === wireCode;
}

const V4_ENTRY = '00 04 0a630007 20';
const ROUTE = (start: string, end: string, protocol: number): IpRoute => ({
  start: parseAddress(start),
  end: parseAddress(end),
  protocol,
});

const arbitraryEntry = fc
  .record({
    requestId: fc.bigInt({ min: 1n, max: (1n << 62n) - 1n }),
    family: fc.constantFrom<AddressFamily>(4, 6),
    bits: fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
    length: fc.nat(128),
  })
  .map(({ requestId, family, bits, length: wanted }): AssignedAddress => {
    const width = ADDRESS_BITS[family];
    const length = Math.min(wanted, width);
    const host = BigInt(width - length);
    return { requestId, prefix: { address: { family, value: (BigInt.asUintN(width, bits) >> host) << host }, length } };
  });

suite('ADDRESS_ASSIGN', () => {
  test('item 21 a known capsule: 10.99.0.7/32 unsolicited and fd00:99::/64 for request 5', () => {
    const assigned = [
      { requestId: 0n, prefix: parsePrefix('10.99.0.7/32') },
      { requestId: 5n, prefix: parsePrefix('fd00:99::/64') },
    ];
    const capsule = encodeAddressAssign(assigned);
    assert.deepEqual(capsule, hex(`01 1a ${V4_ENTRY} 05 06 fd000099000000000000000000000000 40`));
    assert.deepEqual(parseAddressAssign(capsule.subarray(2)), assigned);
  });

  test('item 21 an empty list is legal', () => {
    assert.deepEqual(parseAddressAssign(hex('')), []);
    assert.deepEqual(encodeAddressAssign([]), hex('01 00'));
  });

  test('item 22 a refusal is the all-zero address of full length for a request', () => {
    assert.equal(entriesText([refusedAddress(7n, 4), refusedAddress(8n, 6)]), '7=0.0.0.0/32 8=::/128');
    assert.ok(isRefusal(refusedAddress(7n, 6)));
    assert.ok(!isRefusal({ requestId: 7n, prefix: parsePrefix('0.0.0.0/0') }));
  });

  test('item 21, input 43 every list survives, and an entry cut at any byte is refused', () => {
    fc.assert(
      fc.property(fc.array(arbitraryEntry, { maxLength: 5 }), (entries) => {
        for (const entry of entries) {
          const value = valueIn(encodeAddressAssign([entry]));
          for (let end = 1; end < value.length; end++) {
            assert.throws(() => parseAddressAssign(value.subarray(0, end)), isStreamError(0x10e));
          }
          assert.throws(() => parseAddressAssign(concat(value, hex('00'))), isStreamError(0x10e));
        }
        assert.deepEqual(parseAddressAssign(valueIn(encodeAddressAssign(entries))), entries);
      }),
    );
  });

  for (const [item, value] of [
    ['input 43 version 5', '00 05 0a630007 20'],
    ['item 24 version 0', '00 00 0a630007 20'],
    ['input 43 prefix length 33', '00 04 0a630007 21'],
    ['item 24 prefix length 129', `00 06 ${'00'.repeat(16)} 81`],
    ['input 43 host bits', '00 04 0a630007 18'],
    ['item 24 host bits of IPv6', `00 06 ${'00'.repeat(15)}01 40`],
    ['input 43 a trailing byte', `${V4_ENTRY} 00`],
  ] as const) {
    test(`9484-4.7.1 ${item} -> S10e`, () => {
      assert.throws(() => parseAddressAssign(hex(value)), isStreamError(0x10e));
    });
  }
});

suite('ADDRESS_REQUEST', () => {
  test('item 22 a wish for any IPv4 address survives', () => {
    const requested = [{ requestId: 1n, prefix: parsePrefix('0.0.0.0/32') }];
    assert.deepEqual(encodeAddressRequest(requested), hex('02 07 01 04 00000000 20'));
    assert.deepEqual(parseAddressRequest(hex('01 04 00000000 20')), requested);
  });

  for (const [item, value] of [
    ['input 44 empty', ''],
    ['input 44 id 0', '00 04 00000000 20'],
    ['input 44 one id twice', '01 04 00000000 20 01 06 00000000000000000000000000000000 80'],
    ['item 24 version 7', '01 07 00000000 20'],
    ['item 24 cut off', '01 04 0000'],
  ] as const) {
    test(`9484-4.7.2 ${item} -> S10e`, () => {
      assert.throws(() => parseAddressRequest(hex(value)), isStreamError(0x10e));
    });
  }

  test('9484-4.7.2 input 44 an id reused in a later capsule -> S10e', () => {
    const reader = new CapsuleReader(new Log());
    const capsule = encodeAddressRequest([{ requestId: 3n, prefix: parsePrefix('0.0.0.0/32') }]);
    reader.push(capsule);
    assert.throws(() => reader.push(capsule), isStreamError(0x10e));
  });

  test('more ids than we remember -> S107', () => {
    const ids = new UsedRequestIds();
    const entry = (id: number) => [{ requestId: BigInt(id), prefix: parsePrefix('0.0.0.0/32') }];
    for (let id = 1; id <= MAX_REQUEST_IDS; id++) ids.add(entry(id));
    assert.throws(() => ids.add(entry(MAX_REQUEST_IDS + 1)), isStreamError(0x107));
  });
});

suite('ROUTE_ADVERTISEMENT', () => {
  test('item 23 a known capsule: everything over IPv4 and IPv6', () => {
    const routes = [routeToPrefix(parsePrefix('::/0')), routeToPrefix(parsePrefix('0.0.0.0/0'))];
    const capsule = encodeRouteAdvertisement(routes);
    assert.deepEqual(capsule, hex(`03 2c 04 00000000 ffffffff 00 06 ${'00'.repeat(16)} ${'ff'.repeat(16)} 00`));
    assert.deepEqual(parseRouteAdvertisement(capsule.subarray(2)), routes.toReversed());
  });

  test('item 23 an empty list is legal, and so are neighbours, and equal ranges of two protocols', () => {
    assert.deepEqual(parseRouteAdvertisement(hex('')), []);
    parseRouteAdvertisement(hex('04 0a000000 0a0000ff 00 04 0a000100 0a0001ff 00'));
    parseRouteAdvertisement(hex('04 0a000000 0a0000ff 06 04 0a000000 0a0000ff 11'));
  });

  test('item 24 a route cut at any byte is refused', () => {
    const value = valueIn(encodeRouteAdvertisement([ROUTE('10.0.0.0', '10.0.0.255', 6)]));
    for (let end = 1; end < value.length; end++) {
      assert.throws(() => parseRouteAdvertisement(value.subarray(0, end)), isStreamError(0x10e));
    }
  });

  for (const [item, value] of [
    ['item 24 version 5', '05 0a000000 0a0000ff 00'],
    ['item 24 start above end', '04 0a0000ff 0a000000 00'],
    ['item 24 a trailing byte', '04 0a000000 0a0000ff 00 04'],
    ['input 45 routes reversed', '04 0a000100 0a0001ff 00 04 0a000000 0a0000ff 00'],
    ['input 45 v6 before v4', `06 ${'00'.repeat(32)} 00 04 0a000000 0a0000ff 00`],
    ['input 45 protocol descending', '04 0a000000 0a0000ff 11 04 0a000100 0a0001ff 06'],
    ['input 45 touching', '04 0a000000 0a0000ff 00 04 0a0000ff 0a0001ff 00'],
    ['input 45 protocol-0 overlap', '04 0a000000 0affffff 00 04 0a000100 0a0001ff 06'],
    [
      'input 45 protocol-0 overlap at one address',
      '04 0a000000 0a000010 00 04 0a0000f0 0a0000ff 00 04 0a000020 0a0000f0 06',
    ],
  ] as const) {
    test(`9484-4.7.3 ${item} -> S10e`, () => {
      assert.throws(() => parseRouteAdvertisement(hex(value)), isStreamError(0x10e));
    });
  }

  test('protocols of one range do not overlap the range of all protocols of the other family', () => {
    parseRouteAdvertisement(hex(`04 00000000 ffffffff 00 06 ${'00'.repeat(16)} ${'ff'.repeat(16)} 06`));
  });

  test('the encoder puts routes in order and refuses an overlap', () => {
    const capsule = encodeRouteAdvertisement([ROUTE('10.0.1.0', '10.0.1.255', 6), ROUTE('10.0.0.0', '10.0.0.9', 0)]);
    assert.equal(parseRouteAdvertisement(valueIn(capsule))[0]?.protocol, 0);
    const overlapping = [ROUTE('10.0.0.0', '10.0.0.9', 6), ROUTE('10.0.0.9', '10.0.0.10', 6)];
    assert.throws(() => encodeRouteAdvertisement(overlapping), isStreamError(0x10e));
  });

  test('a route allows its addresses and its protocol', () => {
    const route = ROUTE('10.0.0.5', '10.0.0.9', 6);
    assert.ok(routeAllows(route, parseAddress('10.0.0.5'), 6));
    assert.ok(routeAllows(route, parseAddress('10.0.0.9'), 6));
    assert.ok(!routeAllows(route, parseAddress('10.0.0.10'), 6));
    assert.ok(!routeAllows(route, parseAddress('10.0.0.5'), 17));
    assert.ok(!routeAllows(route, parseAddress('::a00:5'), 6));
  });
});

suite('capsule reader', () => {
  const stream = concat(
    encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('10.99.0.7/32') }]),
    encodeCapsule(0x29 * 7 + 0x17, new Uint8Array(300)),
    encodeDatagramCapsule(hex('00 4500')),
    encodeRouteAdvertisement([]),
    encodeDatagramCapsule(hex('')),
    encodeAddressRequest([{ requestId: 1n, prefix: parsePrefix('::/128') }]),
  );
  const expected = ['assign 0=10.99.0.7/32', 'datagram 004500', 'routes 0', 'datagram ', 'request 1=::/128'];

  test('item 26 any chunking gives the same capsules', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (lengths) => {
        const log = new Log();
        const reader = new CapsuleReader(log);
        for (let offset = 0, i = 0; offset < stream.length; i++) {
          const length = lengths[i % lengths.length]!;
          reader.push(stream.slice(offset, offset + length));
          offset += length;
        }
        reader.end();
        assert.deepEqual(log.lines, expected);
      }),
    );
  });

  test('input 46 the end of the stream inside any capsule -> S10e', () => {
    const capsule = encodeDatagramCapsule(hex('00 4500'));
    for (let end = 1; end < capsule.length; end++) {
      const reader = new CapsuleReader(new Log());
      reader.push(capsule.subarray(0, end));
      assert.throws(() => reader.end(), isStreamError(0x10e));
    }
  });

  test('input 41 a known capsule of length 2^62-1, or just above the limit -> S107', () => {
    for (const length of [2n ** 62n - 1n, BigInt(MAX_CAPSULE_BYTES + 1)]) {
      for (const type of [0, 1, 2, 3]) {
        const reader = new CapsuleReader(new Log());
        assert.throws(() => reader.push(concat(encodeVarint(type), encodeVarint(length))), isStreamError(0x107));
      }
    }
  });

  test('input 42 a GREASE capsule of 1 MiB, and one of 2^62-1, is read over', () => {
    const log = new Log();
    const reader = new CapsuleReader(log);
    reader.push(concat(encodeVarint(0x17), encodeVarint(1 << 20)));
    for (let i = 0; i < 1024; i++) reader.push(new Uint8Array(1024));
    reader.push(encodeDatagramCapsule(hex('00')));
    assert.deepEqual(log.lines, ['datagram 00']);
    reader.push(concat(encodeVarint(0x17), encodeVarint(2n ** 62n - 1n), new Uint8Array(5000)));
    assert.deepEqual(log.lines, ['datagram 00']);
  });

  test('a capsule of exactly the limit is taken', () => {
    const log = new Log();
    const reader = new CapsuleReader(log);
    const capsule = encodeDatagramCapsule(new Uint8Array(MAX_CAPSULE_BYTES));
    reader.push(capsule.subarray(0, 1000));
    reader.push(capsule.subarray(1000));
    assert.equal(log.lines[0]?.length, 'datagram '.length + 2 * MAX_CAPSULE_BYTES);
  });

  test('nothing follows a stop, not even from the bytes being pushed', () => {
    const log = new Log();
    const reader = new CapsuleReader(log);
    log.onRouteAdvertisement = () => reader.stop();
    reader.push(concat(encodeRouteAdvertisement([]), encodeDatagramCapsule(hex('00')), hex('00')));
    reader.end();
    assert.deepEqual(log.lines, []);
  });

  test('arbitrary bytes never cause more than a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const reader = new CapsuleReader(new Log());
        try {
          reader.push(bytes);
          reader.end();
        } catch (error) {
          assert.ok(error instanceof Http3StreamError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });
});

function valueIn(capsule: Uint8Array): Uint8Array {
  const lengthBytes = 1 << (capsule[1]! >> 6);
  return capsule.subarray(1 + lengthBytes);
}
