import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProgressPrinter } from '../../../control-plane/admin/progress-printer.ts';

const replay = (position: number) =>
  ({ phase: 'replay', position, from: 0, through: 10_000, records: 4 * position }) as const;

function printer(isTTY: boolean) {
  const written: string[] = [];
  const output = { isTTY, write: (text: string) => written.push(text) };
  return { written, progress: new ProgressPrinter(output) };
}

test('on a terminal one line changes, ten times a second at most', () => {
  const { written, progress } = printer(true);
  progress.show({ phase: 'copy' }, 0);
  progress.show(replay(0), 1_000);
  progress.show(replay(1_000), 1_050);
  progress.show(replay(2_500), 3_000);
  progress.end();
  assert.deepEqual(written, [
    '\r\u001b[Kmaking the tables',
    '\r\u001b[K[------------------------]   0 % 0 of 10,000 events',
    '\r\u001b[K[######------------------]  25 % 2,500 of 10,000 events, 5,000 records/s, 6 s left',
    '\r\u001b[K',
  ]);
});

test('elsewhere there is a line every few seconds, and one for the end of each phase', () => {
  const { written, progress } = printer(false);
  for (let second = 0; second <= 12; second++) progress.show(replay(second * 500), second * 1_000);
  progress.show({ phase: 'index', done: 1, tables: 4 }, 13_000);
  progress.show({ phase: 'switch' }, 13_100);
  progress.end();
  assert.deepEqual(
    written.map((line) => line.trimEnd()),
    [
      '[------------------------]   0 % 0 of 10,000 events',
      '[######------------------]  25 % 2,500 of 10,000 events, 2,000 records/s, 15 s left',
      '[############------------]  50 % 5,000 of 10,000 events, 2,000 records/s, 10 s left',
      '[##############----------]  60 % 6,000 of 10,000 events, 2,000 records/s, 8 s left',
      '[######------------------]  25 % making indexes: 1 of 4 tables',
      'waiting to put the new tables in place',
    ],
  );
});
