import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assignSeries, KEEP_SERIES_MS, type SeriesCandidate } from '../../../control-plane/metrics/assign-series.ts';

const NOW = Date.parse('2026-01-01T12:00:00.000Z');
const candidate = (clientId: string, changes: Partial<SeriesCandidate> = {}): SeriesCandidate => ({
  clientId,
  shown: null,
  connected: true,
  lastSeenMs: NOW,
  ...changes,
});
const gone = { connected: false, lastSeenMs: NOW - KEEP_SERIES_MS };

test('within the limit every new client gets series of its own', () => {
  assert.deepEqual(assignSeries([candidate('a'), candidate('b')], 2, NOW), { show: ['a', 'b'], fold: [] });
});

test('beyond the limit new clients are folded while nobody has been gone for an hour', () => {
  const shown = candidate('a', { shown: true, connected: false, lastSeenMs: NOW - KEEP_SERIES_MS + 1 });
  assert.deepEqual(assignSeries([shown, candidate('b')], 1, NOW), { show: [], fold: ['b'] });
});

test('a client that has been gone for an hour makes room when it is needed', () => {
  const shown = candidate('a', { shown: true, ...gone });
  assert.deepEqual(assignSeries([shown, candidate('b')], 1, NOW), { show: ['b'], fold: ['a'] });
  assert.deepEqual(assignSeries([shown], 1, NOW), { show: [], fold: [] });
});

test('a folded client that connects again gets series when there is room', () => {
  const folded = candidate('a', { shown: false });
  assert.deepEqual(assignSeries([folded], 1, NOW), { show: ['a'], fold: [] });
  assert.deepEqual(assignSeries([{ ...folded, connected: false }], 1, NOW), { show: [], fold: [] });
});

test('a limit that was lowered folds those that are needed least', () => {
  const clients = [candidate('a', { shown: true, ...gone }), candidate('b', { shown: true })];
  assert.deepEqual(assignSeries(clients, 1, NOW), { show: [], fold: ['a'] });
  assert.deepEqual(assignSeries(clients, 0, NOW), { show: [], fold: ['a', 'b'] });
});

test('the limit holds and every new client is decided on', () => {
  const client = fc.record({
    shown: fc.constantFrom(null, true, false),
    connected: fc.boolean(),
    age: fc.integer({ min: 0, max: 2 * KEEP_SERIES_MS }),
  });
  fc.assert(
    fc.property(fc.array(client, { maxLength: 30 }), fc.integer({ min: 0, max: 20 }), (list, limit) => {
      const clients = list.map(({ shown, connected, age }, i) =>
        candidate(`client-${i}`, { shown, connected, lastSeenMs: NOW - age }),
      );
      const { show, fold } = assignSeries(clients, limit, NOW);
      const after = new Map(clients.map(({ clientId, shown }) => [clientId, shown]));
      for (const id of show) after.set(id, true);
      for (const id of fold) after.set(id, false);
      assert.equal(new Set([...show, ...fold]).size, show.length + fold.length);
      assert.ok([...after.values()].filter((shown) => shown === true).length <= limit);
      for (const [id, shown] of after) assert.notEqual(shown, null, `${id} is undecided`);
    }),
  );
});
