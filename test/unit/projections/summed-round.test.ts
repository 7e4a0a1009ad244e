import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SummedRound } from '../../../control-plane/projections/summed-round.ts';
import { TrafficSums } from '../../../control-plane/projections/traffic-sums.ts';
import { FOLD_SLICES } from '../../../control-plane/projections/unfolded-traffic.ts';

/** A round behind position 10 with a row for each connection, in the slice that its client's name is. */
function roundOf(...clients: readonly number[]): SummedRound {
  const sums = new TrafficSums();
  sums.begin(10);
  sums.add(
    clients.map((slice, i) => ({
      position: 11 + i,
      connectionId: `connection-${i}`,
      clientId: String(slice),
      node: 'node-a',
      kind: 'window',
      windowEnd: '2026-03-02T12:00:00.000Z',
      bytesIn: 1,
      bytesOut: 1,
      packetsIn: 1,
      packetsOut: 1,
      latencyMs: [1, 2, 3],
    })),
  );
  return new SummedRound(sums, Number);
}

test('slice by slice a round gives each sum once, and says what traffic_fold has to say', () => {
  const round = roundOf(5, 0, 63, 5);
  assert.deepEqual([round.rows, round.sums(), round.isTaken], [4, 4, false]);
  const first = round.take(5);
  assert.deepEqual(
    first.hours.map(({ connectionId }) => connectionId),
    ['connection-1'],
  );
  assert.deepEqual(round.fold, { position: 10, round_end: 14, slices: 5 });
  const rest = round.take(FOLD_SLICES - 5);
  assert.deepEqual(
    rest.hours.map(({ connectionId }) => connectionId),
    ['connection-0', 'connection-3', 'connection-2'],
  );
  assert.deepEqual(
    rest.latencies.map(({ clientId, percentile, count }) => [clientId, percentile, count]),
    [0, 1, 2].map((percentile) => ['5', percentile, 2]).concat([0, 1, 2].map((percentile) => ['63', percentile, 1])),
  );
  assert.deepEqual([round.rows, round.sums(), round.isTaken], [0, 0, true]);
  assert.deepEqual(round.fold, { position: 14, round_end: null, slices: 0 });
});

test('as many slices are taken together as have so few sums, one at least, and empty ones with those before them', () => {
  assert.equal(roundOf(0, 0, 0, 7, 9).slicesWithin(2), 7, 'the first one has three');
  assert.equal(roundOf(0, 0, 0, 7, 9).slicesWithin(4), 9);
  assert.equal(roundOf(0, 0, 0, 7, 9).slicesWithin(5), FOLD_SLICES);
  assert.equal(roundOf(40).slicesWithin(0), 40);
});

test('a round is given up when its rows were folded by others', () => {
  const round = roundOf(0, 30);
  assert.ok(round.isAt({ position: 10, round_end: null, slices: 0 }));
  assert.ok(!round.isAt({ position: 12, round_end: null, slices: 0 }));
  round.take(20);
  assert.ok(round.isAt({ position: 10, round_end: 12, slices: 20 }));
  for (const fold of [
    { position: 10, round_end: null, slices: 0 },
    { position: 10, round_end: 12, slices: 21 },
    { position: 10, round_end: 11, slices: 20 },
    { position: 12, round_end: null, slices: 0 },
  ]) {
    assert.ok(!round.isAt(fold), JSON.stringify(fold));
  }
});
