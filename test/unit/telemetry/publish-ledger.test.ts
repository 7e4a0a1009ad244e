import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PublishLedger } from '../../../data-plane/telemetry/publish-ledger.ts';

const A = '2026-01-01T00:00:00.123456789Z';
const B = '2026-02-02T00:00:00.000Z';

function sentAndAcked(ranges: [number, number, number][]): PublishLedger {
  const ledger = new PublishLedger(0);
  for (const [first, last, streamSeq] of ranges)
    ledger.acked(ledger.sending({ first, last }), { streamSeq, streamCreated: A });
  return ledger;
}

test('what has a PubAck beyond the watermark is not sent again, however often the watermark comes', () => {
  const ledger = sentAndAcked([
    [1, 10, 7],
    [11, 20, 8],
  ]);
  for (let i = 0; i < 3; i++) assert.equal(ledger.applied({ appliedSeq: 5, streamSeq: 6, streamCreated: A }, A), 0);
  assert.equal(ledger.nextDue(100), undefined);
  assert.equal(ledger.uncommitted, 15);
});

test('what Postgres passed by without having it is sent again, the rest is not', () => {
  const ledger = sentAndAcked([
    [1, 10, 7],
    [11, 20, 8],
  ]);
  assert.equal(ledger.applied({ appliedSeq: 5, streamSeq: 7, streamCreated: A }, A), 5);
  assert.deepEqual(ledger.nextDue(100), { first: 6, last: 10 });
});

test('what is in another stream is sent again, once', () => {
  const ledger = sentAndAcked([[1, 10, 7]]);
  assert.equal(ledger.applied({ appliedSeq: 0, streamSeq: 0, streamCreated: B }, B), 10);
  ledger.acked(ledger.sending({ first: 1, last: 10 }), { streamSeq: 1, streamCreated: B });
  // A control plane that has not noticed the new stream yet.
  assert.equal(ledger.applied({ appliedSeq: 0, streamSeq: 900, streamCreated: A }, B), 0);
  assert.equal(ledger.applied({ appliedSeq: 0, streamSeq: 0, streamCreated: B }, B), 0);
});

test('a creation time that was rounded to milliseconds names the same stream', () => {
  const ledger = sentAndAcked([[1, 10, 7]]);
  const watermark = { appliedSeq: 0, streamSeq: 6, streamCreated: '2026-01-01T00:00:00.123Z' };
  assert.equal(ledger.applied(watermark, A), 0);
});

test('a publish that failed is sent again, joined with its neighbours', () => {
  const ledger = new PublishLedger(0);
  const ids = [1, 2, 3].map((seq) => ledger.sending({ first: seq, last: seq }));
  for (const id of ids) ledger.failed(id);
  assert.deepEqual(ledger.nextDue(100), { first: 1, last: 3 });
  assert.deepEqual(ledger.nextDue(2), { first: 1, last: 2 });
});

test('a reconnect makes all that is uncommitted due once, and late answers of before count for nothing', () => {
  const ledger = sentAndAcked([[1, 10, 7]]);
  const late = ledger.sending({ first: 11, last: 20 });
  ledger.reconnected();
  ledger.acked(late, { streamSeq: 9, streamCreated: A });
  ledger.failed(late);
  assert.deepEqual(ledger.nextDue(100), { first: 1, last: 20 });
  ledger.sending({ first: 1, last: 20 });
  assert.equal(ledger.nextDue(100), undefined);
});

test('whatever happens, every event is committed, due, or under way exactly once', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('publish' as const), n: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ do: fc.constantFrom('resend' as const, 'ack' as const, 'fail' as const), n: fc.nat(50) }),
    fc.record({ do: fc.constant('reconnect' as const), n: fc.nat(1) }),
    fc.record({ do: fc.constant('watermark' as const), n: fc.nat(200), stream: fc.nat(200) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const ledger = new PublishLedger(0);
      let streamSeq = 0;
      const underWay = new Map<number, { first: number; last: number; streamSeq?: number }>();
      const covered = () => {
        const seqs: number[] = [];
        const rest = new Set<number>();
        for (const { first, last } of underWay.values()) for (let s = first; s <= last; s++) seqs.push(s);
        for (let s = ledger.appliedSeq + 1; s <= ledger.publishedSeq; s++) rest.add(s);
        for (const s of seqs.filter((s) => s > ledger.appliedSeq)) {
          assert.ok(rest.delete(s), `${s} is under way twice`);
        }
        // What is not under way must be due, in order.
        assert.equal(ledger.nextDue(1)?.first, [...rest][0]);
      };
      for (const s of steps) {
        const ids = [...underWay.keys()];
        const id = ids[s.n % Math.max(1, ids.length)];
        if (s.do === 'publish') {
          const range = { first: ledger.publishedSeq + 1, last: ledger.publishedSeq + s.n };
          underWay.set(ledger.sending(range), range);
        } else if (s.do === 'resend') {
          const due = ledger.nextDue(s.n + 1);
          if (due) underWay.set(ledger.sending(due), due);
        } else if (s.do === 'ack' && id !== undefined) {
          const range = underWay.get(id)!;
          if (range.streamSeq === undefined) {
            range.streamSeq = ++streamSeq;
            ledger.acked(id, { streamSeq, streamCreated: A });
          }
        } else if (s.do === 'fail' && id !== undefined) {
          if (underWay.get(id)?.streamSeq === undefined) {
            ledger.failed(id);
            underWay.delete(id);
          }
        } else if (s.do === 'reconnect') {
          ledger.reconnected();
          underWay.clear();
        } else if (s.do === 'watermark') {
          const appliedSeq = Math.min(s.n, ledger.publishedSeq);
          const stream = Math.min(s.stream, streamSeq);
          ledger.applied({ appliedSeq, streamSeq: stream, streamCreated: A }, A);
          for (const [key, range] of underWay) {
            if (range.last <= ledger.appliedSeq || (range.streamSeq ?? Number.POSITIVE_INFINITY) <= stream) {
              underWay.delete(key);
            }
          }
        }
        covered();
      }
    }),
    { numRuns: 300 },
  );
});
