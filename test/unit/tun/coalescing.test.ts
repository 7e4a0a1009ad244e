import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { WordBuffer } from '../../../data-plane/ip/word-buffer.ts';
import { Coalescing, MAX_RUNS } from '../../../data-plane/tun/coalescing.ts';
import { Segmentation } from '../../../data-plane/tun/segmentation.ts';
import { VNET_HEADER_BYTES } from '../../../data-plane/tun/vnet-header.ts';
import { embed } from '../ip/sample-packets.ts';
import {
  ACK,
  anySample,
  buildFrame,
  buildPacket,
  CWR,
  cutNaively,
  FIN,
  ipHeaderBytes,
  PSH,
  type Sample,
} from './sample-flows.ts';

/** Puts packets together; `frames` has what would be written, vnet headers included, `counts` how many packets each stands for. */
function coalesce(packets: readonly Uint8Array[], options: { udp?: boolean; owner?: (index: number) => number } = {}) {
  const frames: Uint8Array[] = [];
  const counts: number[] = [];
  const owners: number[] = [];
  const coalescing = new Coalescing<number>(
    {
      writeRun(run, owner) {
        frames.push(run.buffer.bytes.slice(0, run.length));
        counts.push(run.packets);
        owners.push(owner);
      },
      writeAlone(bytes, offset, length, owner) {
        frames.push(
          Uint8Array.from([...new Uint8Array(VNET_HEADER_BYTES), ...bytes.subarray(offset, offset + length)]),
        );
        counts.push(1);
        owners.push(owner);
      },
    },
    { udp: options.udp ?? true },
  );
  for (const [i, bytes] of packets.entries()) {
    const { buffer, offset } = embed(bytes, 1 + (i % 8));
    coalescing.add(buffer, offset, bytes.length, options.owner?.(i) ?? 0);
    buffer.fill(0xee); // it was copied
  }
  coalescing.flush();
  return { frames, counts, owners };
}

/** What the kernel makes of frames. */
function cut(frames: readonly Uint8Array[]): Uint8Array[] {
  return frames.flatMap((frame) => {
    const buffer = new WordBuffer(frame.length);
    buffer.bytes.set(frame);
    const segmentation = new Segmentation(buffer);
    assert.ok(segmentation.start(0, frame.length));
    const packets: Uint8Array[] = [];
    while (segmentation.next())
      packets.push(buffer.bytes.slice(segmentation.offset, segmentation.offset + segmentation.length));
    return packets;
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Packets that differ only in an identification that means nothing are the same (RFC 6864, 4.1). */
function withoutFreeIdentification(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x45 || bytes[6] !== 0x40) return bytes;
  const copy = bytes.slice();
  copy.fill(0, 4, 6);
  copy.fill(0, 10, 12);
  return copy;
}

function flowOf(bytes: Uint8Array): string {
  const v4 = bytes[0]! >> 4 === 4;
  return v4 ? `4 ${bytes[9]} ${hex(bytes.subarray(12, 24))}` : `6 ${bytes[6]} ${hex(bytes.subarray(8, 44))}`;
}

const anySegments = fc.record({ sample: anySample(8000), segmentSize: fc.integer({ min: 200, max: 1400 }) });
const base: Sample = {
  family: 4,
  protocol: 'tcp',
  sourcePort: 1,
  ttl: 64,
  dontFragment: true,
  identification: 7,
  sequence: 1000,
  acknowledgment: 7,
  flags: ACK,
  window: 500,
  options: new Uint8Array(12).fill(1),
  payload: new Uint8Array(3000).fill(5),
};
const segmentsOf = (changes: Partial<Sample> = {}) => cutNaively({ ...base, ...changes }, 1000);

describe('Coalescing', () => {
  it('makes of the packets that were cut the very packet that they were', () => {
    fc.assert(
      fc.property(anySegments, ({ sample, segmentSize }) => {
        const packets = cutNaively(sample, segmentSize);
        const { frames } = coalesce(packets);
        const whole =
          packets.length === 1
            ? Uint8Array.from([...new Uint8Array(VNET_HEADER_BYTES), ...packets[0]!])
            : buildFrame(sample, segmentSize);
        assert.deepEqual(frames, [whole]);
        assert.deepEqual(cut(frames), packets);
      }),
    );
  });

  it('keeps every packet of every flow, to the bit and in its order, whatever comes in between', () => {
    const anyTraffic = fc.array(
      fc.record({
        segments: anySegments,
        // Bursts of the same few flows, so that they continue one another, or do not.
        continues: fc.boolean(),
        damage: fc.option(fc.record({ index: fc.nat(20), at: fc.nat(80), bit: fc.nat(7) }), { freq: 3 }),
        flags: fc.option(fc.constantFrom(FIN | ACK, CWR | ACK, 2, 4, ACK | 32), { freq: 4 }),
        swap: fc.boolean(),
      }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(anyTraffic, fc.boolean(), fc.array(fc.nat(), { maxLength: 100 }), (traffic, udp, picks) => {
        let last: Sample | undefined;
        const bursts = traffic.map(({ segments: { sample, segmentSize }, continues, damage, flags, swap }) => {
          let next = flags === null ? sample : { ...sample, flags };
          if (continues && last !== undefined) {
            next = { ...last, sequence: (last.sequence + last.payload.length) >>> 0, payload: sample.payload };
          }
          last = next;
          const packets = cutNaively(next, segmentSize);
          const broken = damage === null ? undefined : packets[damage.index % packets.length];
          if (broken !== undefined && damage !== null) broken[damage.at % broken.length]! ^= 1 << damage.bit;
          if (swap) packets.push(...packets.splice(0, 1));
          return packets;
        });
        // The bursts interleaved, each in its own order.
        const packets: Uint8Array[] = [];
        for (const pick of picks) packets.push(...(bursts[pick % bursts.length]?.splice(0, 1) ?? []));
        for (const burst of bursts) packets.push(...burst);

        const { frames, counts } = coalesce(packets, { udp });
        const out = cut(frames);
        assert.equal(
          counts.reduce((sum, count) => sum + count, 0),
          packets.length,
        );
        const byFlow = (all: readonly Uint8Array[]) =>
          Object.fromEntries(
            Object.entries(Object.groupBy(all, flowOf)).map(([flow, own]) => [
              flow,
              own?.map((bytes) => hex(withoutFreeIdentification(bytes))),
            ]),
          );
        assert.deepEqual(byFlow(out), byFlow(packets));
      }),
      { numRuns: 300 },
    );
  });

  it('puts interleaved flows together, and makes the oldest leave when there are too many', () => {
    const flows = Array.from({ length: MAX_RUNS }, (_, i) => segmentsOf({ sourcePort: 10 + i }));
    const interleaved = [0, 1, 2].flatMap((i) => flows.map((packets) => packets[i]!));
    assert.deepEqual(
      coalesce(interleaved).counts,
      flows.map(() => 3),
    );
    const more = [...flows, segmentsOf({ sourcePort: 99 })].map((packets) => packets[0]!);
    const { frames } = coalesce(more);
    assert.equal(frames.length, MAX_RUNS + 1);
    assert.deepEqual(frames[0]?.subarray(VNET_HEADER_BYTES), more[0], 'the first to come is the first to go');
  });

  const [first, second, third] = segmentsOf();
  const changed = (changes: Partial<Sample>) => segmentsOf(changes)[1]!;
  const differences: readonly (readonly [string, Uint8Array])[] = [
    ['acknowledgment number', changed({ acknowledgment: 8 })],
    ['window', changed({ window: 501 })],
    ['TTL', changed({ ttl: 63 })],
    ['DF', changed({ dontFragment: false })],
    ['options', changed({ options: new Uint8Array(12).fill(2) })],
    ['length of options', changed({ options: new Uint8Array(8).fill(1) })],
    ['gap', changed({ sequence: 1001 })],
    ['FIN', buildPacket({ ...base, sequence: 2000, flags: ACK | FIN, payload: base.payload.subarray(0, 1000) })],
    ['more payload', buildPacket({ ...base, sequence: 2000, payload: new Uint8Array(1001) })],
    ['no payload', buildPacket({ ...base, sequence: 2000, payload: new Uint8Array(0) })],
  ];
  for (const [what, packet] of differences) {
    it(`does not add a packet that differs: ${what}`, () => {
      assert.deepEqual(coalesce([first!, packet]).counts, [1, 1]);
    });
  }

  it('ends a run with a shorter packet, or with PSH', () => {
    const short = buildPacket({ ...base, sequence: 2000, payload: base.payload.subarray(0, 999) });
    const next = buildPacket({ ...base, sequence: 2999, payload: base.payload.subarray(0, 999) });
    assert.deepEqual(coalesce([first!, short, next]).counts, [2, 1]);
    const push = buildPacket({ ...base, sequence: 2000, flags: ACK | PSH, payload: base.payload.subarray(0, 1000) });
    const { frames, counts } = coalesce([first!, push, third!]);
    assert.deepEqual(counts, [2, 1]);
    assert.equal(frames[0]![VNET_HEADER_BYTES + 33]! & PSH, PSH);
  });

  it('does not make a wrong checksum right: such a packet, the first included, goes as it came', () => {
    for (const wrong of [0, 1, 2]) {
      for (const at of [10, ipHeaderBytes(base) + 16, 500]) {
        const packets = segmentsOf().map((bytes) => bytes.slice());
        packets[wrong]![at]! ^= 1;
        assert.deepEqual(cut(coalesce(packets).frames), packets, `byte ${at} of packet ${wrong}`);
      }
    }
  });

  it('does not mix the packets of two owners, though they look like one flow', () => {
    const { counts, owners } = coalesce([first!, second!, third!], { owner: (i) => (i === 2 ? 1 : 0) });
    assert.deepEqual(
      [counts, owners],
      [
        [2, 1],
        [0, 1],
      ],
    );
  });

  it('leaves UDP alone where the kernel does not cut it, or where it has no checksum', () => {
    const datagrams = segmentsOf({ protocol: 'udp' });
    assert.deepEqual(coalesce(datagrams, { udp: true }).counts, [3]);
    assert.deepEqual(coalesce(datagrams, { udp: false }).counts, [1, 1, 1]);
    for (const bytes of datagrams) writeUint16(bytes, 26, 0);
    assert.deepEqual(coalesce(datagrams, { udp: true }).counts, [1, 1, 1]);
  });

  it('ends a run at 64 KiB, and one of datagrams at 64', () => {
    const long = cutNaively({ ...base, payload: new Uint8Array(80_000) }, 1000);
    const { frames, counts } = coalesce(long);
    assert.deepEqual(counts, [65, 15]);
    assert.ok(frames.every((frame) => frame.length <= VNET_HEADER_BYTES + 65_535));
    assert.deepEqual(cut(frames), long);
    const datagrams = cutNaively({ ...base, protocol: 'udp', payload: new Uint8Array(70) }, 1);
    assert.deepEqual(coalesce(datagrams).counts, [64, 6]);
  });

  it('lets nothing of a flow be overtaken by what tells no flow', () => {
    const fragment = buildPacket({ ...base, dontFragment: false });
    fragment[6] = 0x20;
    const { frames } = coalesce([first!, second!, fragment]);
    assert.deepEqual(
      frames.map((frame) => frame.length),
      [VNET_HEADER_BYTES + 52 + 2000, VNET_HEADER_BYTES + fragment.length],
    );
  });

  it('takes any bytes without throwing, and hands on as many packets as came', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 120 }), { maxLength: 20 }), (packets) => {
        const counts = coalesce(packets).counts;
        assert.equal(
          counts.reduce((sum, count) => sum + count, 0),
          packets.length,
        );
      }),
    );
  });
});
