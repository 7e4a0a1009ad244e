import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { internetChecksum } from '../../../data-plane/ip/checksum.ts';
import { icmpChecksum } from '../../../data-plane/ip/icmp-checksum.ts';
import { createEchoInfo, readEcho, writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import { type IcmpProblem, MAX_ICMP_ERROR_BYTES, writeIcmpError } from '../../../data-plane/ip/icmp-error.ts';
import { readUint16, writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { TokenBucket } from '../../../data-plane/ip/token-bucket.ts';
import { anyPacket, embed, packet, V4_A, V4_B, V6_A, V6_B } from './sample-packets.ts';

const info = createPacketInfo();
const out = new Uint8Array(2000);
const OUT_AT = 5;
const OWN = { 4: Uint8Array.of(10, 99, 0, 254), 6: V6_B };

function errorAbout(bytes: Uint8Array, problem: IcmpProblem = 'no_route', mtu?: number): number {
  const { buffer, offset } = embed(bytes);
  assert.equal(inspectPacket(buffer, offset, bytes.length, info), 'ok');
  const request = { problem, from: OWN[info.family], ...(mtu === undefined ? {} : { mtu }) };
  return writeIcmpError(out, OUT_AT, request, buffer, offset, info);
}

describe('echo', () => {
  const anyEcho = fc.record({
    kind: fc.constantFrom('request' as const, 'reply' as const),
    family: fc.constantFrom(4 as const, 6 as const),
    identifier: fc.integer({ min: 0, max: 0xffff }),
    sequence: fc.integer({ min: 0, max: 0xffff }),
    payload: fc.uint8Array({ maxLength: 200 }),
  });
  const addresses = { 4: { source: V4_A, destination: V4_B }, 6: { source: V6_A, destination: V6_B } };

  it('is read as it was written', () => {
    fc.assert(
      fc.property(anyEcho, (echo) => {
        const length = writeEcho(out, OUT_AT, { ...echo, ...addresses[echo.family] });
        assert.equal(inspectPacket(out, OUT_AT, length, info), 'ok');
        if (echo.family === 4) assert.equal(internetChecksum(out, OUT_AT, 20), 0);
        const read = createEchoInfo();
        assert.equal(readEcho(out, OUT_AT, info, read), echo.kind);
        assert.deepEqual([read.identifier, read.sequence], [echo.identifier, echo.sequence]);
        const at = OUT_AT + read.payloadOffset;
        assert.deepEqual(out.slice(at, at + read.payloadLength), echo.payload);
      }),
    );
  });

  it('is none of ours with one byte changed', () => {
    fc.assert(
      fc.property(anyEcho, fc.nat(), fc.integer({ min: 1, max: 255 }), (echo, at, flip) => {
        const length = writeEcho(out, OUT_AT, { ...echo, ...addresses[echo.family] });
        assert.equal(inspectPacket(out, OUT_AT, length, info), 'ok');
        const changed = OUT_AT + info.headerLength + (at % (length - info.headerLength));
        out[changed]! ^= flip;
        assert.equal(readEcho(out, OUT_AT, info, createEchoInfo()), 'none');
      }),
    );
  });

  it('is not seen in a fragment, in another protocol or in a message that is cut', () => {
    const length = writeEcho(out, 0, { kind: 'reply', ...addresses[4], identifier: 1, sequence: 2, payload: V6_A });
    assert.equal(inspectPacket(out, 0, length, info), 'ok');
    assert.equal(readEcho(out, 0, { ...info, fragment: true }, createEchoInfo()), 'none');
    assert.equal(readEcho(out, 0, { ...info, protocol: 58 }, createEchoInfo()), 'none');
    assert.equal(readEcho(out, 0, { ...info, totalLength: info.headerLength + 7 }, createEchoInfo()), 'none');
  });

  it('needs room', () => {
    const echo = { kind: 'request', ...addresses[6], identifier: 1, sequence: 2, payload: V6_A } as const;
    assert.throws(() => writeEcho(new Uint8Array(63), 0, echo), RangeError);
  });
});

describe('ICMP errors', () => {
  it('go to the sender, quote as much as is allowed, and have right checksums', () => {
    const answerable = anyPacket.filter((p) => p.protocol !== 1 && p.protocol !== 58);
    fc.assert(
      fc.property(answerable, (sample) => {
        const length = errorAbout(sample.bytes);
        const limit = MAX_ICMP_ERROR_BYTES[sample.family];
        const overhead = (sample.family === 4 ? 20 : 40) + 8;
        assert.equal(length, Math.min(limit, overhead + sample.bytes.length));
        assert.equal(inspectPacket(out, OUT_AT, length, info), 'ok');
        if (sample.family === 4) assert.equal(internetChecksum(out, OUT_AT, 20), 0);
        assert.equal(icmpChecksum(out, OUT_AT, info.headerLength, length - info.headerLength), 0);
        const quote = out.subarray(OUT_AT + overhead, OUT_AT + length);
        assert.deepEqual(Buffer.from(quote), Buffer.from(sample.bytes.subarray(0, quote.length)));
        const to = out.slice(OUT_AT + info.destinationOffset, OUT_AT + info.destinationOffset + info.addressLength);
        assert.deepEqual(to, sample.family === 4 ? V4_A : V6_A);
      }),
    );
  });

  it('items 27, 28, 32 have the types and codes of RFC 792, RFC 1812 and RFC 4443', () => {
    const expected: [IcmpProblem, number, number][] = [
      ['no_route', 0x0300, 0x0100],
      ['address_unreachable', 0x0301, 0x0103],
      ['protocol_prohibited', 0x030d, 0x0101],
      ['source_prohibited', 0x030d, 0x0105],
      ['too_big', 0x0304, 0x0200],
    ];
    for (const [problem, v4, v6] of expected) {
      errorAbout(packet({ family: 4 }), problem);
      assert.equal(readUint16(out, OUT_AT + 20), v4, problem);
      errorAbout(packet({ family: 6 }), problem);
      assert.equal(readUint16(out, OUT_AT + 40), v6, problem);
    }
  });

  it('item 32 carry the MTU when a packet was too big, and only then', () => {
    errorAbout(packet({ family: 4 }), 'too_big', 1380);
    assert.deepEqual([...out.subarray(OUT_AT + 24, OUT_AT + 28)], [0, 0, 1380 >> 8, 1380 & 255]);
    errorAbout(packet({ family: 6 }), 'too_big', 70_000);
    assert.deepEqual([...out.subarray(OUT_AT + 44, OUT_AT + 48)], [0, 1, 0x11, 0x70]);
    errorAbout(packet({ family: 6 }), 'no_route', 1380);
    assert.deepEqual([...out.subarray(OUT_AT + 44, OUT_AT + 48)], [0, 0, 0, 0]);
  });

  it('item 34 are never sent about ICMP errors, and are about other ICMP', () => {
    const v4 = (type: number) => packet({ family: 4, protocol: 1, payload: Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0) });
    const v6 = (type: number) => packet({ family: 6, protocol: 58, payload: Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0) });
    for (const type of [3, 4, 5, 11, 12]) assert.equal(errorAbout(v4(type)), 0, `ICMP ${type}`);
    for (const type of [1, 2, 3, 4, 100, 127, 137]) assert.equal(errorAbout(v6(type)), 0, `ICMPv6 ${type}`);
    for (const type of [0, 8, 13]) assert.ok(errorAbout(v4(type)) > 0, `ICMP ${type}`);
    for (const type of [128, 129]) assert.ok(errorAbout(v6(type)) > 0, `ICMPv6 ${type}`);
    assert.equal(errorAbout(packet({ family: 4, protocol: 1, payload: new Uint8Array(0) })), 0, 'ICMP without a type');
  });

  it('item 34 are never sent to or about groups of hosts', () => {
    assert.equal(errorAbout(packet({ family: 4, destination: Uint8Array.of(224, 0, 0, 1) })), 0);
    assert.equal(errorAbout(packet({ family: 4, destination: Uint8Array.of(255, 255, 255, 255) })), 0);
    assert.equal(errorAbout(packet({ family: 6, destination: Uint8Array.of(0xff, 2, ...new Uint8Array(14)) })), 0);
    for (const source of [
      [0, 0, 0, 0],
      [127, 0, 0, 1],
      [224, 0, 0, 1],
      [255, 255, 255, 255],
    ]) {
      assert.equal(errorAbout(packet({ family: 4, source: Uint8Array.from(source) })), 0, source.join('.'));
    }
    assert.equal(errorAbout(packet({ family: 6, source: new Uint8Array(16) })), 0, '::');
    assert.equal(errorAbout(packet({ family: 6, source: Uint8Array.of(0xff, ...new Uint8Array(15)) })), 0, 'ff00::');
  });

  it('item 34 are never sent about later fragments', () => {
    const later = packet({ family: 4 });
    writeUint16(later, 6, 1);
    assert.equal(errorAbout(later), 0);
    const first = packet({ family: 4 });
    writeUint16(first, 6, 0x2000);
    assert.ok(errorAbout(first) > 0);
    assert.equal(errorAbout(packet({ family: 6, protocol: 44, payload: Uint8Array.of(17, 0, 0, 8, 0, 0, 0, 1) })), 0);
  });
});

describe('TokenBucket', () => {
  it('item 34 never allows more than the burst and the rate, and fills up again', () => {
    const steps = fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(steps, (gaps) => {
        const bucket = new TokenBucket({ ratePerSecond: 100, burst: 5 });
        let now = 1000;
        let taken = 0;
        for (const gap of gaps) {
          now += gap;
          if (bucket.take(now)) taken++;
        }
        assert.ok(taken <= 5 + (now - 1000) / 10);
        let inBurst = 0;
        while (bucket.take(now + 50)) inBurst++;
        assert.equal(inBurst, 5);
      }),
    );
  });

  it('gains nothing from a clock that goes back', () => {
    const bucket = new TokenBucket({ ratePerSecond: 1000, burst: 1 });
    assert.equal(bucket.take(500), true);
    assert.equal(bucket.take(100), false);
    assert.equal(bucket.take(500), false);
    assert.equal(bucket.take(501), true);
  });
});
