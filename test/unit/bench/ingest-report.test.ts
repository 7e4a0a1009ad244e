import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type IngestFigures, renderIngest, reportIngest } from '../../../bench/ingest/report.ts';

const FIGURES: IngestFigures = {
  rate: 25_500,
  seconds: 60,
  events: 330_000,
  records: 1_520_000,
  p50LagMs: 400,
  p99LagMs: 900,
  waiting: 20,
  cpu: { nodes: 20, nats: 10, controlPlane: 60, postgres: 70 },
  leaderBytes: 200e6,
  copyCeiling: 120_000,
  unnestCeiling: 50_000,
  startEvents: 10_000_400,
  startSeconds: 1.5,
};

const verdictOfStart = (figures: IngestFigures) => reportIngest(figures).bars.at(-1)?.verdict;

test('all bars are met where all is fast enough', () => {
  const report = reportIngest(FIGURES);
  assert.equal(report.ok, true);
  assert.deepEqual(report.notMeasured, []);
  assert.match(renderIngest(report), /start on 10000400 events\s+1500\s+ms/);
  assert.doesNotMatch(renderIngest(report), /not measured/);
  assert.equal(verdictOfStart({ ...FIGURES, startSeconds: 11 }), 'MISSED');
});

test('a start on no log, or a shorter one, is said not to be measured, and is no bar that is met', () => {
  for (const start of [
    { startEvents: undefined, startSeconds: undefined },
    { startEvents: 5_000, startSeconds: 0.9 },
  ]) {
    const report = reportIngest({ ...FIGURES, ...start });
    assert.deepEqual(report.notMeasured, ['start on 10 million events']);
    assert.equal(verdictOfStart({ ...FIGURES, ...start }), 'not measured');
    assert.match(renderIngest(report), /not measured: start on 10 million events; --log 10000 or more would/);
  }
});
