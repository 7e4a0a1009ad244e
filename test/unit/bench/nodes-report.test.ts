import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type NodesFigures, renderNodes, reportNodes } from '../../../bench/nodes/report.ts';

const FIGURES: NodesFigures = {
  nodes: 1_000,
  connections: 100,
  windowMs: 5_000,
  setupSeconds: 80,
  seconds: 60,
  events: 30_000,
  records: 1_200_000,
  slowestWatermarkMs: 2_500,
  deepestSpools: 900,
  up: 1_000,
  lost: 0,
  lostBlocks: 0,
  renewals: 3_000,
  oldestPresenceSeconds: 2.1,
  leaderBytes: 400e6,
  leaderCpuSeconds: 24,
  nodesCpuSeconds: 30,
  slowestScrapeMs: 210,
  unapplied: 0,
};

test('all bars are met where every node is kept up with', () => {
  const report = reportNodes(FIGURES);
  assert.equal(report.ok, true);
  assert.ok(report.bars.every(({ verdict }) => verdict === 'met'));
  assert.match(renderNodes(report), /records committed\s+20000\s+a second/);
});

for (const [what, worse, bar] of [
  ['a node that is down', { up: 999 }, 'nodes that are up'],
  ['a node that was declared lost, if it came back too', { lost: 1 }, 'nodes declared lost'],
  ['silence', { oldestPresenceSeconds: 11 }, 'oldest presence'],
  ['a watermark that stands still', { slowestWatermarkMs: 10_001 }, 'slowest watermark'],
  ['a lost block', { lostBlocks: 1 }, 'blocks lost'],
  ['an event that is set aside', { unapplied: 1 }, 'events that are not applied'],
  ['a leader that is too large', { leaderBytes: 501e6 }, 'memory of the leader'],
] as const) {
  test(`${what} misses its bar, and no other`, () => {
    const report = reportNodes({ ...FIGURES, ...worse });
    assert.equal(report.ok, false);
    assert.deepEqual(
      report.bars.filter(({ verdict }) => verdict === 'MISSED').map(({ name }) => name),
      [bar],
    );
  });
}
