import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type QuestionFigures, renderAudit, reportAudit } from '../../../bench/audit/report.ts';

const question = (name: string, medians: readonly number[], explained: string | null = null): QuestionFigures => ({
  name,
  sql: 'SELECT 1',
  keys: medians.length,
  rows: medians.map((_, i) => i),
  first: medians.map((ms) => 10 * ms),
  medians,
  slowest: ['client-7'],
  explained,
});
const figuresOf = (...figures: QuestionFigures[]) => ({
  connections: 1_000,
  traffic: 10_000,
  fillSeconds: 61.4,
  bytes: 1.5e9,
  figures,
});

test('the bar is about the worst of the medians of the keys, not about the first time', () => {
  const report = reportAudit(figuresOf(question('quick', [1, 99.9, 2])));
  assert.equal(report.ok, true);
  assert.deepEqual(report.questions[0], {
    name: 'quick',
    keys: 3,
    mostRows: 2,
    worstFirstMs: 999,
    medianMs: 2,
    worstMedianMs: 99.9,
    slowestKey: ['client-7'],
    plan: null,
  });
});

test('one question that takes too long misses, and its plan is in the output', () => {
  const report = reportAudit(figuresOf(question('quick', [1]), question('slow', [5, 100], 'Seq Scan on connections')));
  assert.equal(report.ok, false);
  assert.deepEqual(
    report.bars.map(({ verdict }) => verdict),
    ['met', 'MISSED'],
  );
  const text = renderAudit(report);
  assert.match(text, /1000 connections, 10000 rows of traffic, 1\.5 GB, filled in 61 s/);
  assert.match(text, /slow \(client-7\)\nSeq Scan on connections/);
});
