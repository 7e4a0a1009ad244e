import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { WordBuffer } from '../../../data-plane/ip/word-buffer.ts';
import { Segmentation } from '../../../data-plane/tun/segmentation.ts';
import {
  createVnetHeader,
  readVnetHeader,
  VNET_HEADER_BYTES,
  writeVnetHeader,
} from '../../../data-plane/tun/vnet-header.ts';
import {
  ACK,
  anySample,
  buildFrame,
  buildPacket,
  CWR,
  cutNaively,
  FIN,
  headerBytes,
  PSH,
  type Sample,
} from './sample-flows.ts';

/** All packets that a frame stands for, or undefined when it is refused. The bytes behind it are 0xff. */
function segments(frame: Uint8Array, room = 64): Uint8Array[] | undefined {
  const buffer = new WordBuffer(frame.length + room);
  buffer.bytes.fill(0xff);
  buffer.bytes.set(frame);
  const segmentation = new Segmentation(buffer);
  if (!segmentation.start(0, frame.length)) return undefined;
  const packets: Uint8Array[] = [];
  while (segmentation.next()) {
    const { offset, length } = segmentation;
    assert.ok(offset >= 0 && length > 0 && offset + length <= frame.length, `${offset}+${length} of ${frame.length}`);
    packets.push(buffer.bytes.slice(offset, offset + length));
    buffer.bytes.fill(0xee, offset, offset + length); // whoever took it may do what it likes with it
  }
  assert.ok(buffer.bytes.subarray(frame.length).every((byte) => byte === 0xff));
  return packets;
}

const anyFlags = fc.subarray([FIN, PSH, CWR]).map((flags) => flags.reduce((all, flag) => all | flag, ACK));
const anyCut = fc.record({
  sample: anySample(6000),
  flags: anyFlags,
  segmentSize: fc.oneof(fc.integer({ min: 100, max: 1448 }), fc.integer({ min: 1, max: 100 })),
});

describe('the vnet header', () => {
  it('round-trips, and is not read where it is cut off', () => {
    const word = fc.integer({ min: 0, max: 0xffff });
    const fields = {
      needsChecksum: fc.boolean(),
      segmentation: fc.integer({ min: 0, max: 0x7f }),
      ecn: fc.boolean(),
      headerLength: word,
      segmentSize: word,
      checksumStart: word,
      checksumOffset: word,
    };
    fc.assert(
      fc.property(fc.record(fields, { noNullPrototype: true }), (header) => {
        const bytes = new Uint8Array(VNET_HEADER_BYTES + 3);
        writeVnetHeader(bytes, 3, header);
        const read = createVnetHeader();
        for (let length = 0; length < VNET_HEADER_BYTES; length++) {
          assert.equal(readVnetHeader(bytes, 3, length, read), false);
        }
        assert.equal(readVnetHeader(bytes, 3, VNET_HEADER_BYTES, read), true);
        assert.deepEqual({ ...read }, header);
      }),
    );
  });
});

describe('Segmentation', () => {
  it('makes the packets that the kernel would have made: lengths, identifications, sequence numbers, flags, checksums', () => {
    fc.assert(
      fc.property(anyCut, ({ sample, flags, segmentSize }) => {
        const cut = { ...sample, flags };
        assert.deepEqual(segments(buildFrame(cut, segmentSize)), cutNaively(cut, segmentSize));
      }),
    );
  });

  it('cuts 64 KiB', () => {
    for (const family of [4, 6] as const) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const sample: Sample = {
          family,
          protocol,
          sourcePort: 1,
          ttl: 64,
          dontFragment: true,
          identification: 0xfff0,
          sequence: 0xffff_fff0,
          acknowledgment: 7,
          flags: ACK | PSH,
          window: 500,
          options: new Uint8Array(12).fill(1),
          payload: Uint8Array.from({ length: 65_535 - 72 }, (_, i) => i * 7),
        };
        assert.deepEqual(segments(buildFrame(sample, 1348)), cutNaively(sample, 1348));
      }
    }
  });

  it('completes the checksum of a single packet, and leaves others as they are', () => {
    fc.assert(
      fc.property(anySample(1500), (sample) => {
        const frame = buildFrame(sample, 0);
        frame[1] = 0; // no segmentation
        assert.deepEqual(segments(frame), [buildPacket(sample)]);
        const whole = Uint8Array.from([...new Uint8Array(VNET_HEADER_BYTES), ...buildPacket(sample)]);
        assert.deepEqual(segments(whole), [buildPacket(sample)]);
      }),
    );
  });

  it('refuses what is cut off anywhere, without reading on', () => {
    fc.assert(
      fc.property(anySample(200), fc.integer({ min: 1, max: 90 }), (sample, segmentSize) => {
        const frame = buildFrame(sample, segmentSize);
        for (let length = 0; length < frame.length; length++) {
          assert.equal(segments(frame.subarray(0, length)), undefined, `${length} of ${frame.length} bytes`);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('refuses what does not fit together', () => {
    const [sample] = fc.sample(
      anySample(3000).filter((s) => s.family === 4 && s.protocol === 'tcp' && s.payload.length > 1000),
      { numRuns: 1, seed: 1 },
    );
    assert.ok(sample !== undefined);
    const changed = (change: (frame: Uint8Array) => void): Uint8Array[] | undefined => {
      const frame = buildFrame(sample, 500);
      change(frame);
      return segments(frame);
    };
    assert.ok(
      changed(() => {}),
      'as it is',
    );
    assert.equal(
      changed((frame) => frame.fill(0, 4, 6)),
      undefined,
      'segments of 0 bytes',
    );
    for (const kind of [2, 3, 4, 5, 0x7f]) {
      assert.equal(
        changed((frame) => frame.fill(kind, 1, 2)),
        undefined,
        `segmentation ${kind} for TCP over IPv4`,
      );
    }
    assert.equal(
      changed((frame) => frame.fill(0x2f, VNET_HEADER_BYTES + 6, VNET_HEADER_BYTES + 7)),
      undefined,
      'a fragment',
    );
    assert.equal(
      changed((frame) => frame.fill(50, VNET_HEADER_BYTES + 9, VNET_HEADER_BYTES + 10)),
      undefined,
      'ESP',
    );
    assert.equal(
      changed((frame) => frame.fill(0x40, VNET_HEADER_BYTES + 32, VNET_HEADER_BYTES + 33)),
      undefined,
      'data offset',
    );
    const single = buildFrame(sample, 0);
    single[1] = 0;
    for (const at of [6, 7, 8, 9]) {
      const other = single.slice();
      other[at] = 0xff; // where the checksum begins and is: far behind the end, or just elsewhere
      const packets = segments(other);
      assert.equal(packets?.length, at % 2 === 0 ? 1 : undefined);
    }
  });

  it('takes any bytes without throwing, and hands out nothing from outside of them', () => {
    const anyFrame = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      // Closer to what it is made for: a frame with some bytes changed.
      fc
        .tuple(anyCut, fc.array(fc.tuple(fc.nat(120), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }))
        .map(([{ sample, segmentSize }, changes]) => {
          const frame = buildFrame(sample, segmentSize);
          for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
          return frame;
        }),
    );
    fc.assert(
      fc.property(anyFrame, (frame) => {
        const packets = segments(frame);
        const total = packets?.reduce((sum, bytes) => sum + bytes.length, 0) ?? 0;
        assert.ok(total <= frame.length * 257, 'at most a header for each byte of payload');
      }),
      { numRuns: 500 },
    );
  });

  it('refuses more than its buffer holds', () => {
    const segmentation = new Segmentation(new WordBuffer(100));
    assert.equal(segmentation.start(0, 101), false);
    assert.equal(segmentation.next(), false);
  });

  it('keeps each packet within headers and segment size', () => {
    fc.assert(
      fc.property(anyCut, ({ sample, segmentSize }) => {
        for (const bytes of segments(buildFrame(sample, segmentSize)) ?? []) {
          assert.ok(bytes.length <= headerBytes(sample) + segmentSize);
        }
      }),
      { numRuns: 30 },
    );
  });
});
