import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { WordBuffer } from '../../../data-plane/ip/word-buffer.ts';
import { Coalescing } from '../../../data-plane/tun/coalescing.ts';
import { createFlowPacket, inspectFlow } from '../../../data-plane/tun/flow-packet.ts';
import { Segmentation } from '../../../data-plane/tun/segmentation.ts';
import {
  createVnetHeader,
  readVnetHeader,
  VNET_HEADER_BYTES,
  writeVnetHeader,
} from '../../../data-plane/tun/vnet-header.ts';
import { fuzz, hostile, mutated, type Surroundings, surroundings, within } from '../../support/fuzz.ts';
import { anySample, buildFrame, buildPacket, cutNaively } from './sample-flows.ts';

const segmentSize = fc.integer({ min: 1, max: 400 });
const anyFrame = fc.tuple(anySample(600), segmentSize).map(([sample, size]) => buildFrame(sample, size));
const anyPacket = anySample(120).map((sample) => buildPacket(sample));

/** What a frame is cut into, and the buffer afterwards. */
function segments({ before, after }: Surroundings, frame: Uint8Array) {
  const buffer = new WordBuffer(before.length + frame.length + after.length);
  buffer.bytes.set(before);
  buffer.bytes.set(frame, before.length);
  buffer.bytes.set(after, before.length + frame.length);
  const segmentation = new Segmentation(buffer);
  const packets: Uint8Array[] = [];
  const started = segmentation.start(before.length, frame.length);
  while (started && segmentation.next()) {
    packets.push(buffer.bytes.slice(segmentation.offset, segmentation.offset + segmentation.length));
  }
  return { started, packets, buffer: buffer.bytes };
}

suite('frames of the kernel', () => {
  test('a vnet header is read as it was written, wherever it lies', () => {
    const word = fc.integer({ min: 0, max: 0xffff });
    const header = fc.record({
      needsChecksum: fc.boolean(),
      segmentation: fc.integer({ min: 0, max: 0x7f }),
      ecn: fc.boolean(),
      headerLength: word,
      segmentSize: word,
      checksumStart: word,
      checksumOffset: word,
    });
    fuzz(header, surroundings, fc.nat(VNET_HEADER_BYTES), (vnet, around, cut) => {
      const { buffer, offset } = within(around, new Uint8Array(VNET_HEADER_BYTES));
      writeVnetHeader(buffer, offset, vnet);
      const read = createVnetHeader();
      assert.equal(readVnetHeader(buffer, offset, cut, read), cut === VNET_HEADER_BYTES);
      assert.equal(readVnetHeader(buffer, offset, VNET_HEADER_BYTES, read), true);
      assert.deepEqual(read, { ...vnet });
      assert.deepEqual(buffer.subarray(0, offset), around.before);
      assert.deepEqual(buffer.subarray(offset + VNET_HEADER_BYTES), around.after);
    });
  });

  test('any frame is cut within its bounds, into no more than it holds, and the same wherever it lies', () => {
    const nothing: Surroundings = { before: new Uint8Array(0), after: new Uint8Array(0) };
    fuzz(hostile(anyFrame, 200), surroundings, (frame, around) => {
      const alone = segments(nothing, frame);
      const embedded = segments(around, frame);
      assert.deepEqual([embedded.started, embedded.packets], [alone.started, alone.packets]);
      const end = around.before.length + frame.length;
      assert.deepEqual(embedded.buffer.subarray(0, around.before.length), around.before);
      assert.deepEqual(embedded.buffer.subarray(end), around.after);
      assert.ok(alone.packets.length <= Math.max(1, frame.length));
    });
  });
});

suite('packets that are put together', () => {
  test('any packet is of one kind, wherever it lies', () => {
    const [alone, embedded] = [createFlowPacket(), createFlowPacket()];
    fuzz(hostile(anyPacket), surroundings, (bytes, around) => {
      const { buffer, offset } = within(around, bytes);
      const verdict = inspectFlow(bytes, 0, bytes.length, alone);
      assert.equal(inspectFlow(buffer, offset, bytes.length, embedded), verdict);
      if (verdict === 'other') return;
      assert.deepEqual(embedded, alone);
      assert.equal(alone.headers + alone.payload, bytes.length);
      assert.ok(alone.transport < alone.headers);
    });
  });

  test('of flows with broken packets in them nothing is lost, doubled or mended', () => {
    const flow = fc.tuple(anySample(600), segmentSize).map(([sample, size]) => cutNaively(sample, size).slice(0, 6));
    const anyTraffic = fc
      .array(
        fc.oneof(
          flow,
          mutated(anyPacket).map((bytes) => [bytes]),
        ),
        { minLength: 1, maxLength: 5 },
      )
      .map((bursts) => bursts.flat());
    fuzz(anyTraffic, surroundings, fc.boolean(), (packets, around, udp) => {
      const out: Uint8Array[] = [];
      const coalescing = new Coalescing<undefined>(
        {
          writeRun: (run) => {
            const buffer = new WordBuffer(run.length);
            buffer.bytes.set(run.buffer.bytes.subarray(0, run.length));
            const segmentation = new Segmentation(buffer);
            assert.equal(segmentation.start(0, run.length), true);
            while (segmentation.next()) {
              out.push(buffer.bytes.slice(segmentation.offset, segmentation.offset + segmentation.length));
            }
          },
          writeAlone: (bytes, offset, length) => out.push(bytes.slice(offset, offset + length)),
        },
        { udp },
      );
      for (const packet of packets) {
        const { buffer, offset } = within(around, packet);
        coalescing.add(buffer, offset, packet.length, undefined);
        buffer.fill(0xee);
      }
      coalescing.flush();
      const sorted = (all: readonly Uint8Array[]) => all.map(withoutFreeIdentification).sort();
      assert.deepEqual(sorted(out), sorted(packets));
    });
  });
});

/** With DF the identification means nothing (RFC 6864, 4.1), and the kernel counts it up when it cuts. */
function withoutFreeIdentification(packet: Uint8Array): string {
  const bytes = packet.slice();
  if (bytes.length >= 20 && bytes[0] === 0x45 && bytes[6] === 0x40) bytes.fill(0, 4, 6).fill(0, 10, 12);
  return Buffer.from(bytes).toString('hex');
}
