import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { MAX_EXTENSION_HEADERS } from '../../../data-plane/ip/ipv6-header.ts';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { anyIpv4WithOptions, anyPacket, embed, packet, withExtensions } from './sample-packets.ts';

const info = createPacketInfo();
const verdictOf = (bytes: Uint8Array) => inspectPacket(bytes, 0, bytes.length, info);
const changed = (bytes: Uint8Array, change: (bytes: Uint8Array) => void) => {
  change(bytes);
  return bytes;
};

describe('inspectPacket', () => {
  it('reads the headers of whole packets anywhere in a buffer', () => {
    fc.assert(
      fc.property(anyPacket, fc.integer({ min: 0, max: 40 }), (sample, before) => {
        const { buffer, offset } = embed(sample.bytes, before);
        assert.equal(inspectPacket(buffer, offset, sample.bytes.length, info), 'ok');
        assert.equal(info.family, sample.family);
        assert.equal(info.protocol, sample.protocol);
        assert.equal(info.totalLength, sample.bytes.length);
        assert.equal(info.headerLength, sample.family === 4 ? 20 : 40);
        assert.equal(info.fragment, false);
        const source = buffer.subarray(offset + info.sourceOffset, offset + info.sourceOffset + info.addressLength);
        assert.deepEqual([source[0], source[source.length - 1]], [sample.family === 4 ? 10 : 0xfd, 1]);
      }),
    );
  });

  it('refuses every truncated prefix and every packet with bytes after its end', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          anyPacket.map((p) => p.bytes),
          anyIpv4WithOptions,
        ),
        fc.nat(),
        (bytes, cut) => {
          const { buffer, offset } = embed(bytes);
          assert.notEqual(inspectPacket(buffer, offset, cut % bytes.length, info), 'ok');
          assert.equal(inspectPacket(buffer, offset, bytes.length + 1, info), 'bad_total_length');
        },
      ),
    );
  });

  it('never throws and never says ok to more bytes than there are, whatever the bytes', () => {
    const version = fc.constantFrom(0x45, 0x46, 0x4f, 0x60, 0x50, 0x00);
    fc.assert(
      fc.property(version, fc.uint8Array({ maxLength: 120 }), fc.boolean(), (first, rest, fixLength) => {
        const bytes = Uint8Array.from([first, ...rest]);
        if (fixLength && first >> 4 === 4 && bytes.length >= 4) writeUint16(bytes, 2, bytes.length);
        if (fixLength && first >> 4 === 6 && bytes.length >= 40) writeUint16(bytes, 4, bytes.length - 40);
        if (verdictOf(bytes) === 'ok') {
          assert.ok(info.headerLength <= bytes.length);
          assert.equal(info.totalLength, bytes.length);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('answers the same whatever lies around the packet', () => {
    const anyBytes = fc.uint8Array({ minLength: 1, maxLength: 100 }).map((b) => changed(b, () => (b[0] = 0x60)));
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        if (bytes.length >= 40) writeUint16(bytes, 4, bytes.length - 40);
        const alone = verdictOf(bytes);
        const aloneInfo = { ...info };
        const { buffer, offset } = embed(bytes);
        assert.equal(inspectPacket(buffer, offset, bytes.length, info), alone);
        if (alone === 'ok') assert.deepEqual({ ...info }, aloneInfo);
      }),
      { numRuns: 500 },
    );
  });

  it('input 40 names what is wrong', () => {
    assert.equal(verdictOf(new Uint8Array(0)), 'empty');
    assert.equal(inspectPacket(new Uint8Array(10), 5, 6, info), 'empty', 'a range beyond the buffer');
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => (b[0] = 0x55))), 'bad_version');
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => (b[0] = 0x44))), 'bad_header_length');
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => (b[0] = 0x4f))), 'bad_header_length');
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => writeUint16(b, 2, b.length - 1))), 'bad_total_length');
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => writeUint16(b, 2, b.length + 1))), 'bad_total_length');
    assert.equal(verdictOf(packet({ family: 4 }).subarray(0, 19)), 'truncated');
    assert.equal(verdictOf(packet({ family: 6 }).subarray(0, 39)), 'truncated');
    assert.equal(verdictOf(changed(packet({ family: 6 }), (b) => writeUint16(b, 4, 0))), 'bad_total_length');
  });

  it('tells fragments of IPv4', () => {
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => writeUint16(b, 6, 0x2000))), 'ok');
    assert.deepEqual([info.fragment, info.laterFragment], [true, false]);
    assert.equal(verdictOf(changed(packet({ family: 4 }), (b) => writeUint16(b, 6, 0x0001))), 'ok');
    assert.deepEqual([info.fragment, info.laterFragment], [true, true]);
  });
});

describe('IPv6 extension headers', () => {
  const eight = Uint8Array.of(0, 0, 0, 0, 0, 0, 0);
  const sixteen = Uint8Array.of(1, ...new Uint8Array(14));
  const udp = new Uint8Array(8);

  it('item 28 are followed to the upper-layer protocol', () => {
    assert.equal(
      verdictOf(
        withExtensions(
          [
            [0, eight],
            [60, sixteen],
            [43, eight],
          ],
          17,
          udp,
        ),
      ),
      'ok',
    );
    assert.deepEqual([info.protocol, info.headerLength], [17, 40 + 8 + 16 + 8]);
    // An authentication header counts in words of 4 bytes, less 2.
    assert.equal(verdictOf(withExtensions([[51, Uint8Array.of(4, ...new Uint8Array(22))]], 6, udp)), 'ok');
    assert.deepEqual([info.protocol, info.headerLength], [6, 64]);
    assert.equal(verdictOf(withExtensions([[60, eight]], 59, new Uint8Array(0))), 'ok');
    assert.equal(info.protocol, 59);
  });

  it('end at a later fragment, whose bytes are the middle of something', () => {
    const fragment = (offsetAndFlags: number) =>
      Uint8Array.of(0, offsetAndFlags >> 8, offsetAndFlags & 255, 1, 2, 3, 4);
    assert.equal(
      verdictOf(
        withExtensions(
          [
            [44, fragment(0x0001)],
            [60, eight],
          ],
          17,
          udp,
        ),
      ),
      'ok',
    );
    assert.deepEqual([info.fragment, info.laterFragment, info.protocol], [true, false, 17]);
    assert.equal(verdictOf(withExtensions([[44, fragment(0x0008)]], 60, Uint8Array.of(17, 255))), 'ok');
    assert.deepEqual([info.fragment, info.laterFragment, info.protocol], [true, true, 60]);
    assert.equal(verdictOf(withExtensions([[44, fragment(0x0000)]], 17, udp)), 'ok');
    assert.deepEqual([info.fragment, info.laterFragment], [false, false], 'an atomic fragment is whole');
  });

  it('input 40 are refused when cut off, out of place or too many', () => {
    const whole = withExtensions(
      [
        [0, eight],
        [60, sixteen],
        [43, eight],
      ],
      17,
      new Uint8Array(0),
    );
    for (let length = 41; length < whole.length; length++) {
      const cut = whole.slice(0, length);
      writeUint16(cut, 4, length - 40);
      // Cut at the end of a header the packet still promises another one.
      assert.equal(verdictOf(cut), 'bad_extension', `${length} bytes`);
    }
    assert.equal(
      verdictOf(
        withExtensions(
          [
            [60, eight],
            [0, eight],
          ],
          17,
          udp,
        ),
      ),
      'bad_extension',
    );
    assert.equal(verdictOf(withExtensions([[60, Uint8Array.of(255, 0, 0, 0, 0, 0, 0)]], 17, udp)), 'bad_extension');
    const chain = (n: number) => Array.from({ length: n }, () => [60, eight] as const);
    assert.equal(verdictOf(withExtensions(chain(MAX_EXTENSION_HEADERS), 17, udp)), 'ok');
    assert.equal(verdictOf(withExtensions(chain(MAX_EXTENSION_HEADERS + 1), 17, udp)), 'bad_extension');
  });
});
