import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReadQueue } from '../../../data-plane/tun/read-queue.ts';
import { ACK, buildPacket, type Sample } from './sample-flows.ts';

const READ_BYTES = 66_000;
const HEADER_BYTES = 40;
const SAMPLE: Sample = {
  family: 4,
  protocol: 'tcp',
  sourcePort: 1,
  ttl: 64,
  dontFragment: true,
  identification: 0,
  sequence: 0,
  acknowledgment: 0,
  flags: ACK,
  window: 1_000,
  options: new Uint8Array(0),
  payload: new Uint8Array(0),
};

/** Puts a read of that flow and length into the queue; its number can be read from the buffer again. */
function put(queue: ReadQueue, flow: number, length: number, number: number): boolean {
  const read = queue.acquire();
  if (read === undefined) return false;
  read.buffer.bytes.set(buildPacket({ ...SAMPLE, sourcePort: flow, payload: new Uint8Array(length) }));
  new DataView(read.buffer.bytes.buffer).setUint32(READ_BYTES - 4, number);
  queue.add(read, HEADER_BYTES + length);
  return true;
}

function takeAll(queue: ReadQueue): number[] {
  const order: number[] = [];
  for (let read = queue.take(); read !== undefined; read = queue.take()) {
    order.push(new DataView(read.buffer.bytes.buffer).getUint32(READ_BYTES - 4));
    queue.release(read);
  }
  return order;
}

test('a small packet of another flow goes ahead of a bulk transfer that was there before', () => {
  const queue = new ReadQueue(READ_BYTES, 0);
  for (let i = 0; i < 10; i++) put(queue, 1, 60_000, i);
  put(queue, 2, 44, 100);
  put(queue, 2, 44, 101);
  assert.deepEqual(takeAll(queue), [0, 100, 101, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('two flows share by bytes, not by packets', () => {
  const queue = new ReadQueue(READ_BYTES, 0);
  for (let i = 0; i < 4; i++) put(queue, 1, 60_000, i);
  for (let i = 0; i < 40; i++) put(queue, 2, 6_000, 100 + i);
  const order = takeAll(queue);
  const before = order.slice(0, order.indexOf(2)).filter((number) => number >= 100).length;
  assert.ok(before >= 19 && before <= 21, `${before} of the small ones before the third of the long ones`);
});

test('whatever comes when: each flow stays in order, nothing is lost, and no more waits than there is room for', () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ flow: fc.integer({ min: 1, max: 4 }), length: fc.integer({ min: 1, max: 60_000 }) }),
    },
    { weight: 2, arbitrary: fc.constant('take' as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
      const queue = new ReadQueue(READ_BYTES, 0);
      const flows = new Map<number, number>();
      const taken: number[] = [];
      let next = 0;
      for (const one of steps) {
        if (one === 'take') {
          const read = queue.take();
          if (read === undefined) continue;
          taken.push(new DataView(read.buffer.bytes.buffer).getUint32(READ_BYTES - 4));
          queue.release(read);
        } else if (put(queue, one.flow, one.length, next)) flows.set(next++, one.flow);
        assert.ok(queue.length <= 64);
      }
      taken.push(...takeAll(queue));
      assert.equal(new Set(taken).size, next);
      for (const flow of [1, 2, 3, 4]) {
        const own = taken.filter((number) => flows.get(number) === flow);
        assert.deepEqual(
          own,
          own.toSorted((a, b) => a - b),
          `flow ${flow}`,
        );
      }
    }),
    { numRuns: 30 },
  );
});
