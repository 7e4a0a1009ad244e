import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ConnectionSnapshot, nearestRank, TrafficWindows } from '../../../data-plane/telemetry/traffic-windows.ts';
import type { NewEvent } from '../../../shared/events/envelope.ts';
import { validateEvent } from '../../../shared/events/envelope.ts';
import { currentVersion } from '../../../shared/events/event-versions.ts';
import { samplesOf } from '../../support/samples-of.ts';

const NONE = { errors: { packet: 0, other: 0 }, drops: {} };
const idOf = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;
const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000);

function snapshot(n: number, bytes: number, probe: Partial<ConnectionSnapshot['probe']> = {}): ConnectionSnapshot {
  return {
    connectionId: idOf(n),
    clientId: `client-${n}`,
    totals: { bytesIn: bytes, bytesOut: 2 * bytes, packetsIn: bytes, packetsOut: bytes },
    rttMs: 1.5,
    probe: { sent: 0, answered: 0, latenciesMs: [], ...probe },
  };
}

function recorder() {
  const stored: NewEvent<'traffic.sampled'>[] = [];
  const spool = { full: false };
  const append = async (events: NewEvent<'traffic.sampled'>[]) => {
    if (spool.full) throw new Error('full');
    for (const event of events) {
      const envelope = {
        node: 'n',
        epoch: 'a'.repeat(32),
        seq: 1,
        incarnation: 'a'.repeat(32),
        version: currentVersion('traffic.sampled'),
        ...event,
      };
      validateEvent(envelope);
      stored.push(event);
    }
  };
  return { stored, spool, windows: new TrafficWindows({ append, startedAt: at(0) }) };
}

test('a window carries what was added since the last one', async () => {
  const { stored, windows } = recorder();
  await windows.record(at(5), [snapshot(1, 100)], { errors: { packet: 2, other: 0 }, drops: { spoofed: 2 } });
  await windows.record(at(10), [snapshot(1, 130)], {
    errors: { packet: 3, other: 1 },
    drops: { spoofed: 2, queue: 4 },
  });
  const [first, second] = stored.map(({ data }) => data);
  assert.equal(first?.samples.bytesIn[0], 100);
  assert.deepEqual([second?.samples.bytesIn[0], second?.samples.bytesOut[0]], [30, 60]);
  assert.deepEqual([second?.errors, second?.drops], [{ packet: 1, other: 1 }, { queue: 4 }]);
  assert.deepEqual([second?.windowStart, second?.windowEnd], [at(5).toISOString(), at(10).toISOString()]);
});

test('a window that the spool refuses is merged into the next one', async () => {
  const { stored, spool, windows } = recorder();
  spool.full = true;
  const probe = { sent: 2, answered: 1, latenciesMs: [9] };
  await assert.rejects(windows.record(at(5), [snapshot(1, 100, probe)], { ...NONE, drops: { queue: 1 } }), /full/);
  spool.full = false;
  await windows.record(at(10), [snapshot(1, 150, { sent: 2, answered: 2, latenciesMs: [1, 2] })], {
    ...NONE,
    drops: { queue: 3 },
  });
  const [data] = stored.map((event) => event.data);
  assert.equal(data?.windowStart, at(0).toISOString());
  assert.deepEqual(data?.drops, { queue: 3 });
  const sample = data && samplesOf(data)[0];
  assert.equal(sample?.bytesIn, 150);
  assert.equal(sample?.lossPercent, 25);
  assert.deepEqual(sample?.latencyMs, { p50: 2, p95: 9, p99: 9 });
});

test('loss is unknown until the client has answered once, and then also of windows without answers', async () => {
  const { stored, windows } = recorder();
  await windows.record(at(5), [snapshot(1, 0, { sent: 5 })], NONE);
  await windows.record(at(10), [snapshot(1, 0, { sent: 4, answered: 5, latenciesMs: [1] })], NONE);
  await windows.record(at(15), [snapshot(1, 0, { sent: 5 })], NONE);
  await windows.record(at(20), [snapshot(1, 0)], NONE);
  assert.deepEqual(
    stored.map(({ data }) => data.samples.lossPercent[0]),
    [null, 0, 100, null],
  );
  assert.deepEqual(
    stored.map(({ data }) => data.samples.latencyMs[0] === null),
    [true, false, true, true],
  );
});

test('more connections than one event takes are spread over several, with the counters in the first', async () => {
  const { stored, windows } = recorder();
  const many = Array.from({ length: 1203 }, (_, i) => snapshot(i, i));
  await windows.record(at(5), many, { errors: { packet: 1, other: 0 }, drops: { queue: 1 } });
  assert.deepEqual(
    stored.flatMap(({ data }) => data.samples.bytesIn),
    many.map((_, i) => i),
  );
  assert.deepEqual(
    stored.map(({ data }) => data.errors.packet),
    stored.map((_, i) => (i === 0 ? 1 : 0)),
  );
});

test('a closed connection appears no more, also when a snapshot of it was under way', async () => {
  const { stored, windows } = recorder();
  await windows.record(at(5), [snapshot(1, 10), snapshot(2, 10)], NONE);
  windows.forget(idOf(1));
  await windows.record(at(10), [snapshot(1, 20), snapshot(2, 20)], NONE);
  assert.deepEqual(stored[1]?.data.samples.clientId, ['client-2']);
});

test('of a connection that closes while windows wait for the disk none tells the whole again', async () => {
  const disk = Promise.withResolvers<void>();
  const stored: NewEvent<'traffic.sampled'>[] = [];
  const append = async (events: NewEvent<'traffic.sampled'>[]) => {
    await disk.promise;
    stored.push(...events);
  };
  const windows = new TrafficWindows({ append, startedAt: at(0) });
  for (let n = 1; n <= 9; n++) void windows.record(at(5 * n), [snapshot(1, 10 * n), snapshot(2, n)], NONE);
  windows.forget(idOf(1));
  disk.resolve();
  await windows.settle();
  assert.equal(stored.length, 9);
  assert.ok(stored.every(({ data }) => data.samples.clientId.join() === 'client-2'));
});

test('a window without connections, errors and drops is not recorded', async () => {
  const { stored, windows } = recorder();
  await windows.record(at(5), [], NONE);
  assert.deepEqual(stored, []);
});

test('percentiles are of nearest rank', () => {
  const values = [15, 20, 35, 40, 50];
  assert.deepEqual(
    [5, 30, 40, 50, 100].map((p) => nearestRank(values, p)),
    [15, 20, 20, 35, 50],
  );
});

test('whatever the spool refuses, the deltas add up to the totals', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ full: fc.boolean(), add: fc.nat(1000) }), { maxLength: 12 }),
      async (steps) => {
        const { stored, spool, windows } = recorder();
        let total = 0;
        const all = [...steps, { full: false, add: 1 }];
        for (const [i, { full, add }] of all.entries()) {
          total += add;
          spool.full = full;
          await windows.record(at(i + 1), [snapshot(1, total)], NONE).catch(() => undefined);
        }
        const sum = stored.reduce((s, { data }) => s + (data.samples.bytesIn[0] ?? 0), 0);
        assert.equal(sum, total);
      },
    ),
  ));
