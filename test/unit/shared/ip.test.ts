import assert from 'node:assert/strict';
import { isIPv4, isIPv6 } from 'node:net';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import {
  ADDRESS_BITS,
  addressFromBytes,
  addressToBytes,
  canonicalAddress,
  formatAddress,
  type IpAddress,
  parseAddress,
  sameAddress,
} from '../../../shared/ip/address.ts';
import {
  assignableCount,
  blockAt,
  blockCount,
  isAssignable,
  nodeAddress,
  poolCapacity,
} from '../../../shared/ip/block.ts';
import {
  formatPrefix,
  hostPrefix,
  type IpPrefix,
  lastAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from '../../../shared/ip/prefix.ts';
import { rangeToPrefixes } from '../../../shared/ip/range.ts';

const anyAddress: fc.Arbitrary<IpAddress> = fc
  .constantFrom(4 as const, 6 as const)
  .chain((family) =>
    fc.bigInt({ min: 0n, max: 2n ** BigInt(ADDRESS_BITS[family]) - 1n }).map((value) => ({ family, value })),
  );

const anyPrefix: fc.Arbitrary<IpPrefix> = anyAddress.chain(({ family, value }) =>
  fc.integer({ min: 0, max: ADDRESS_BITS[family] }).map((length) => {
    const hostBits = BigInt(ADDRESS_BITS[family] - length);
    return { address: { family, value: (value >> hostBits) << hostBits }, length };
  }),
);

/** A prefix of `family` with an address of the same family, near it half of the time. */
const prefixAndAddress = anyPrefix.chain((prefix) => {
  const { family, value } = prefix.address;
  const top = 2n ** BigInt(ADDRESS_BITS[family]) - 1n;
  const near = fc
    .bigInt({ min: -2n, max: prefixSize(prefix) + 1n })
    .map((offset) => value + offset)
    .filter((v) => v >= 0n && v <= top);
  return fc.oneof(near, fc.bigInt({ min: 0n, max: top })).map((v) => ({ prefix, address: { family, value: v } }));
});

suite('addresses', () => {
  test('of IPv6 are written as RFC 5952 says, with any zeros', () => {
    const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
    const groups = fc.array(group, { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(groups, (parts) => {
        const address = new ipaddr.IPv6(parts);
        assert.equal(canonicalAddress(address.toNormalizedString()), address.toRFC5952String());
      }),
    );
  });

  test('text and bytes bring back every address, in the form that Node takes too', () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        const text = formatAddress(address);
        assert.deepEqual(parseAddress(text), address);
        assert.deepEqual(addressFromBytes(addressToBytes(address)), address);
        assert.ok(address.family === 4 ? isIPv4(text) : isIPv6(text), text);
        assert.equal(formatAddress(parseAddress(text.toUpperCase())), text);
      }),
    );
  });

  test('the canonical text is that of RFC 5952', () => {
    for (const [given, canonical] of [
      ['2001:0DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['::', '::'],
      ['0:0:0:0:0:0:0:1', '::1'],
      ['fd00:99:0:0:0:0:0:7', 'fd00:99::7'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['10.99.0.1', '10.99.0.1'],
    ] as const) {
      assert.equal(formatAddress(parseAddress(given)), canonical);
    }
  });

  test('what could be read in two ways is refused', () => {
    const refused = [
      '',
      '10',
      '10.1',
      '010.0.0.1',
      '0x0a.0.0.1',
      '10.0.0.256',
      '10.0.0.1 ',
      'fe80::1%eth0',
      '::g',
      '1:2',
    ];
    for (const text of refused) assert.throws(() => parseAddress(text), { code: 'INVALID_ADDRESS' }, text);
    for (const length of [0, 3, 5, 15, 17]) {
      assert.throws(() => addressFromBytes(new Uint8Array(length)), { code: 'INVALID_ADDRESS' });
    }
  });

  test('no text makes the parser throw anything but its own error', () => {
    const texts = fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:.%/]{0,45}$/));
    fc.assert(
      fc.property(texts, (text) => {
        try {
          const address = parseAddress(text);
          assert.ok(address.value >= 0n && address.value < 2n ** BigInt(ADDRESS_BITS[address.family]));
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'INVALID_ADDRESS');
        }
      }),
    );
  });

  test('families are never the same address', () => {
    assert.equal(sameAddress(parseAddress('0.0.0.1'), parseAddress('::1')), false);
    assert.equal(sameAddress(parseAddress('::1'), parseAddress('0:0::1')), true);
  });
});

suite('prefixes', () => {
  test('text brings back every prefix', () => {
    fc.assert(fc.property(anyPrefix, (prefix) => assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix)));
  });

  test('host bits, lengths beyond the family and other text are refused', () => {
    const refused = [
      '10.0.0.0',
      '10.0.0.1/8',
      '10.0.0.0/33',
      '::/129',
      '::1/127',
      '10.0.0.0/',
      '/8',
      '10.0.0.0/08x',
      '10.0.0.0/-1',
      '10.0.0.0/ 8',
      '10.0.0.0/8/8',
    ];
    for (const text of refused) assert.throws(() => parsePrefix(text), { code: 'INVALID_PREFIX' }, text);
  });

  test('an address is inside exactly when it lies between first and last', () => {
    fc.assert(
      fc.property(prefixAndAddress, ({ prefix, address }) => {
        const inside = address.value >= prefix.address.value && address.value <= lastAddress(prefix).value;
        assert.equal(prefixContains(prefix, address), inside);
        assert.equal(prefixCovers(prefix, hostPrefix(address)), inside);
        assert.equal(prefixesOverlap(prefix, hostPrefix(address)), inside);
      }),
    );
    assert.equal(prefixContains(parsePrefix('0.0.0.0/0'), parseAddress('::')), false);
  });

  test('two prefixes overlap exactly when one covers the other, in both orders', () => {
    fc.assert(
      fc.property(anyPrefix, anyPrefix, (a, b) => {
        const sameFamily = a.address.family === b.address.family;
        const ranges = a.address.value <= lastAddress(b).value && b.address.value <= lastAddress(a).value && sameFamily;
        assert.equal(prefixesOverlap(a, b), ranges);
        assert.equal(prefixesOverlap(b, a), ranges);
        assert.equal(prefixCovers(a, b) || prefixCovers(b, a), ranges);
      }),
    );
  });

  test('size, first and last agree', () => {
    fc.assert(
      fc.property(anyPrefix, (prefix) =>
        assert.equal(lastAddress(prefix).value - prefix.address.value + 1n, prefixSize(prefix)),
      ),
    );
  });
});

suite('ranges', () => {
  const anyRange = fc.tuple(anyAddress, fc.bigInt({ min: 0n, max: 5000n })).map(([{ family, value }, span]) => {
    const top = 2n ** BigInt(ADDRESS_BITS[family]) - 1n;
    return { start: { family, value }, end: { family, value: value + span > top ? top : value + span } };
  });

  test('become prefixes that follow each other without gap or overlap, from start to end', () => {
    fc.assert(
      fc.property(anyRange, ({ start, end }) => {
        const prefixes = rangeToPrefixes(start, end);
        let next = start.value;
        for (const prefix of prefixes) {
          assert.equal(prefix.address.value, next);
          assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
          next = lastAddress(prefix).value + 1n;
        }
        assert.equal(next, end.value + 1n);
        // The fewest: no two neighbours could be one.
        for (const [i, prefix] of prefixes.entries()) {
          const after = prefixes[i + 1];
          if (after === undefined || after.length !== prefix.length) continue;
          assert.notEqual(prefix.address.value % (prefixSize(prefix) * 2n), 0n);
        }
      }),
    );
  });

  test('a prefix is its own range, also the whole address space', () => {
    fc.assert(
      fc.property(anyPrefix, (prefix) =>
        assert.deepEqual(rangeToPrefixes(prefix.address, lastAddress(prefix)), [prefix]),
      ),
    );
    assert.deepEqual(rangeToPrefixes(parseAddress('0.0.0.1'), parseAddress('0.0.0.0')), []);
  });
});

suite('blocks of pools', () => {
  /** A small pool and the length of its blocks, so that everything can be counted. */
  const poolAndLength = anyAddress.chain(({ family, value }) => {
    const bits = ADDRESS_BITS[family];
    return fc
      .record({ hostBits: fc.integer({ min: 3, max: 9 }), blockBits: fc.integer({ min: 2, max: 9 }) })
      .filter(({ hostBits, blockBits }) => blockBits <= hostBits)
      .map(({ hostBits, blockBits }) => ({
        pool: {
          address: { family, value: (value >> BigInt(hostBits)) << BigInt(hostBits) },
          length: bits - hostBits,
        } satisfies IpPrefix,
        blockLength: bits - blockBits,
      }));
  });

  test('tile the pool, and what may be handed out is what is counted', () => {
    fc.assert(
      fc.property(poolAndLength, ({ pool, blockLength }) => {
        const handedOut = new Set<bigint>();
        for (let i = 0n; i < blockCount(pool, blockLength); i++) {
          const block = blockAt(pool, blockLength, i);
          assert.ok(prefixCovers(pool, block));
          const own = nodeAddress({ pool, block });
          assert.ok(prefixContains(block, own));
          let inBlock = 0n;
          for (let value = block.address.value; value <= lastAddress(block).value; value++) {
            const address = { family: block.address.family, value };
            if (!isAssignable({ pool, block }, address)) continue;
            assert.notEqual(value, own.value);
            assert.notEqual(value, pool.address.value);
            if (pool.address.family === 4) assert.notEqual(value, lastAddress(pool).value);
            assert.ok(!handedOut.has(value));
            handedOut.add(value);
            inBlock++;
          }
          assert.equal(assignableCount({ pool, block }), inBlock);
        }
        assert.equal(poolCapacity(pool, blockLength), BigInt(handedOut.size));
      }),
      { numRuns: 40 },
    );
  });

  test('a /26 of 10.99.0.0/16: its node is .1 in the first block and .64 in the second', () => {
    const pool = parsePrefix('10.99.0.0/16');
    const first = { pool, block: blockAt(pool, 26, 0n) };
    const second = { pool, block: blockAt(pool, 26, 1n) };
    assert.equal(formatAddress(nodeAddress(first)), '10.99.0.1');
    assert.equal(formatAddress(nodeAddress(second)), '10.99.0.64');
    assert.equal(assignableCount(first), 62n);
    assert.equal(assignableCount(second), 63n);
    assert.equal(isAssignable(first, parseAddress('10.99.0.0')), false);
    assert.equal(isAssignable(second, parseAddress('10.99.0.127')), true);
  });
});
