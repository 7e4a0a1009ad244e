import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allOf, type SummedRow, TrafficSums } from '../../../control-plane/projections/traffic-sums.ts';

const ROW: SummedRow = {
  position: 11,
  connectionId: 'one',
  clientId: 'alice',
  node: 'node-a',
  kind: 'window',
  windowEnd: '2026-03-02T12:59:59.999Z',
  bytesIn: 1,
  bytesOut: 2,
  packetsIn: 3,
  packetsOut: 4,
  latencyMs: [0.5, 1.001, 7_000],
};

function sumsOf(...rows: readonly Partial<SummedRow>[]): TrafficSums {
  const sums = new TrafficSums();
  sums.begin(10);
  sums.add(rows.map((row) => ({ ...ROW, ...row })));
  return sums;
}

test('nothing is kept before it begins, and nothing after it was told to forget', () => {
  const sums = new TrafficSums();
  sums.add([ROW]);
  assert.deepEqual([sums.after, sums.rows, sums.hours()], [undefined, 0, []]);
  sums.begin(10);
  sums.add([ROW]);
  assert.deepEqual([sums.after, sums.position, sums.rows, sums.size], [10, 11, 1, 1]);
  sums.forget();
  sums.add([ROW]);
  assert.deepEqual([sums.after, sums.rows, sums.hours(), sums.latencies()], [undefined, 0, [], []]);
});

test('rows of a connection add up by the hour in which their window ends; only windows count as sampled', () => {
  const sums = sumsOf({}, { position: 12, kind: 'late' }, { position: 13, windowEnd: '2026-03-02T13:00:00.000Z' });
  const hours = sums.hours().map((sum) => ({
    hour: new Date(sum.hour).toISOString(),
    bytesIn: [allOf(sum).bytesIn, sum.bytesIn],
    rows: sum.rows,
    position: sum.position,
    lastSeen: new Date(sum.lastSeen).toISOString(),
  }));
  assert.deepEqual(hours, [
    { hour: '2026-03-02T12:00:00.000Z', bytesIn: [2, 1], rows: 2, position: 12, lastSeen: '2026-03-02T12:59:59.999Z' },
    { hour: '2026-03-02T13:00:00.000Z', bytesIn: [1, 1], rows: 1, position: 13, lastSeen: '2026-03-02T13:00:00.000Z' },
  ]);
});

test('latencies of a client are counted by bucket, a percentile each, bounds included', () => {
  const [p50, p95, p99] = sumsOf({}, { connectionId: 'two' }).latencies();
  assert.deepEqual(
    [p50, p95, p99].map((sum) => [sum?.percentile, sum?.buckets.findIndex((n) => n > 0), sum?.sumUs, sum?.count]),
    [
      [0, 0, 1_000, 2],
      [1, 2, 2_002, 2],
      [2, 17, 14_000_000, 2],
    ],
  );
});

test('of what numbers cannot add exactly there are no sums: only how many rows there are and where they end', () => {
  const inexact = (...rows: readonly Partial<SummedRow>[]) => {
    const sums = sumsOf(...rows, { position: 15 });
    return !sums.isExact && [sums.after, sums.rows, sums.position, sums.hours().length, sums.latencies().length];
  };
  const most = Number.MAX_SAFE_INTEGER;
  assert.deepEqual(inexact({ latencyMs: [0.0001, 1, 1] }), [10, 2, 15, 0, 0], 'a part of a microsecond');
  assert.deepEqual(inexact({ latencyMs: [1e12 + 0.5, 1, 1] }), [10, 2, 15, 0, 0], 'more digits than Postgres takes');
  assert.deepEqual(inexact({ bytesIn: most }, { bytesIn: 1 }), [10, 3, 15, 0, 0], 'a sum beyond the exact numbers');
  assert.equal(sumsOf({ bytesIn: most }).isExact, true);
});

test('windows that end in ever other hours are left to Postgres, and those of some weeks are not', () => {
  const inHours = (hours: number) =>
    sumsOf(
      ...Array.from({ length: hours }, (_, i) => ({
        windowEnd: new Date(Date.UTC(2026, 2, 2) + i * 3_600_000).toISOString(),
      })),
    );
  assert.equal(inHours(1_000).hours().length, 1_000);
  assert.equal(inHours(1_001).isExact, false);
});
