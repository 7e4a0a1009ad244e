import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Connection,
  type ConnectionChange,
  countSample,
  evolveConnection,
  newConnection,
  trafficOf,
} from '../../../control-plane/projections/connection-state.ts';
import { NO_TRAFFIC } from '../../../control-plane/projections/traffic-totals.ts';
import type { TrafficTotals } from '../../../shared/events/traffic-columns.ts';

const identity = { connectionId: 'c', clientId: 'alice', node: 'node-a', incarnation: 'i' };
const details = { remoteAddress: '192.0.2.7', remotePort: 1, transport: 'http3', tunnelMtu: 1400 } as const;

const traffic = fc.record({
  bytesIn: fc.nat(1e6),
  bytesOut: fc.nat(1e6),
  packetsIn: fc.nat(1e3),
  packetsOut: fc.nat(1e3),
});
const moment = fc.nat(1e6);
const change: fc.Arbitrary<ConnectionChange> = fc.oneof(
  moment.map((at) => ({ type: 'established', at, details }) as const),
  traffic.map((sample) => ({ type: 'sampled', traffic: sample }) as const),
  moment.map((at) => ({ type: 'presumed', at, reason: 'node_lost' }) as const),
  moment.map((at) => ({ type: 'heard', at }) as const),
  moment.map((at) => ({ type: 'abandoned', at, reason: 'error', detail: '' }) as const),
  fc
    .tuple(moment, traffic)
    .map(([at, totals]) => ({ type: 'closed', at, reason: 'client', detail: '', durationMs: 5, totals }) as const),
);

function run(changes: readonly ConnectionChange[]) {
  let connection: Connection = newConnection(identity);
  let counted: TrafficTotals = NO_TRAFFIC;
  let established = 0;
  let ended = 0;
  for (const next of changes) {
    const step = evolveConnection(connection, next);
    connection = step.connection;
    established += Number(step.established);
    ended += Number(step.ended);
    assert.ok(
      Object.values(step.counted).every((value) => value >= 0),
      'a counter never goes down',
    );
    counted = {
      bytesIn: counted.bytesIn + step.counted.bytesIn,
      bytesOut: counted.bytesOut + step.counted.bytesOut,
      packetsIn: counted.packetsIn + step.counted.packetsIn,
      packetsOut: counted.packetsOut + step.counted.packetsOut,
    };
  }
  return { connection, counted, established, ended };
}

test('whatever happens: established and ended count once, totals are what the connection shows, closed is for good', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const { connection, counted, established, ended } = run(changes);
      assert.deepEqual(counted, trafficOf(connection));
      assert.equal(established, Number(changes.some(({ type }) => type === 'established')));
      assert.equal(ended, Number(changes.some(({ type }) => type === 'closed' || type === 'abandoned')));
      assert.equal(connection.status.state === 'closed', ended === 1);
    }),
  );
});

test('the report of the end adds what the windows lack, and a late window adds it no second time', () => {
  const totals = { bytesIn: 1000, bytesOut: 500, packetsIn: 10, packetsOut: 5 };
  const closed: ConnectionChange = { type: 'closed', at: 9, reason: 'idle', detail: '', durationMs: 9, totals };
  const first: ConnectionChange = { type: 'sampled', traffic: { ...NO_TRAFFIC, bytesIn: 400 } };
  const late: ConnectionChange = { type: 'sampled', traffic: { ...NO_TRAFFIC, bytesIn: 600 } };
  assert.deepEqual(run([first, closed, late]).counted, totals);
  assert.deepEqual(run([first, late, closed]).counted, totals);
});

test('a window that is counted in place does what it does to a copy, or nothing', () => {
  const most = Number.MAX_SAFE_INTEGER;
  const largest = fc.constantFrom(0, 1, most).map((bytesIn): TrafficTotals => ({ ...NO_TRAFFIC, bytesIn }));
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 10 }),
      fc.array(fc.oneof(traffic, largest), { minLength: 1 }),
      (changes, samples) => {
        let inPlace = run(changes).connection;
        let copied = structuredClone(inPlace);
        for (const sample of samples) {
          const expected = evolveConnection(copied, { type: 'sampled', traffic: sample });
          const before = structuredClone(inPlace);
          const outcome = countSample(inPlace, sample);
          if (outcome === undefined) {
            assert.deepEqual(structuredClone(inPlace), before);
            assert.ok(before.closeTotals !== null || before.sampled.bytesIn + sample.bytesIn > most);
            inPlace = evolveConnection(inPlace, { type: 'sampled', traffic: sample }).connection;
          } else {
            assert.deepEqual(structuredClone(outcome), structuredClone(expected));
          }
          copied = expected.connection;
        }
        assert.deepEqual(structuredClone(inPlace), structuredClone(copied));
        assert.equal(NO_TRAFFIC.bytesIn, 0);
      },
    ),
  );
});

test('a presumed close is provisional: only a later sign of life reopens it, and deltas count in any state', () => {
  const sample: ConnectionChange = { type: 'sampled', traffic: { ...NO_TRAFFIC, bytesOut: 7 } };
  const presumed: ConnectionChange = { type: 'presumed', at: 100, reason: 'node_lost' };
  const before = run([sample, presumed, sample, { type: 'heard', at: 99 }]);
  assert.equal(before.connection.status.state, 'presumed');
  assert.equal(before.ended, 0);
  const after = run([sample, presumed, sample, { type: 'heard', at: 101 }]);
  assert.equal(after.connection.status.state, 'open');
  assert.equal(after.counted.bytesOut, 14);
});

test('a real close after a final one changes the row, and counts nothing twice', () => {
  const end: ConnectionChange = { type: 'abandoned', at: 50, reason: 'node_lost', detail: 'gone' };
  const real: ConnectionChange = {
    type: 'closed',
    at: 40,
    reason: 'client',
    detail: '',
    durationMs: 30,
    totals: { ...NO_TRAFFIC, bytesIn: 3 },
  };
  const { connection, ended, counted } = run([{ type: 'established', at: 10, details }, end, real]);
  assert.equal(ended, 1);
  assert.equal(counted.bytesIn, 3);
  assert.deepEqual(connection.status, { state: 'closed', reason: 'client', detail: '', closedAt: 40, durationMs: 30 });
});
