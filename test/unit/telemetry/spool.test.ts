import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { Spool, type SpoolOptions } from '../../../data-plane/telemetry/spool.ts';
import { decodeEvents, type NewEvent, validateEvent } from '../../../shared/events/envelope.ts';

const incarnation = 'b'.repeat(32);

function draining(reason = 'test'): NewEvent {
  return { type: 'node.draining', at: '2026-01-01T00:00:00.000Z', data: { reason } };
}

function failed(): NewEvent {
  const data = {
    remoteAddress: '192.0.2.1',
    clientId: null,
    status: 401,
    reason: 'no',
    errorType: 'auth',
    count: 1,
  } as const;
  return { type: 'connection.failed', at: '2026-01-01T00:00:00.000Z', data };
}

async function withSpool(
  options: Partial<SpoolOptions>,
  use: (spool: Spool, database: NodeDatabase, reopen: (incarnation: string) => Spool) => Promise<void>,
): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), 'spool-'));
  let database = new NodeDatabase(path);
  try {
    await use(new Spool(database, { node: 'node-a', incarnation, ...options }), database, (other) => {
      database.close();
      database = new NodeDatabase(path);
      return new Spool(database, { node: 'node-a', ...options, incarnation: other });
    });
  } finally {
    database.close();
    rmSync(path, { recursive: true });
  }
}

test('appended events are valid envelopes with contiguous sequences', () =>
  withSpool({}, async (spool) => {
    const groups = await Promise.all([spool.append([draining(), failed()]), spool.append([failed()])]);
    assert.deepEqual(
      groups.flat().map(({ seq }) => seq),
      [1, 2, 3],
    );
    const stored = spool.read(1, 3, 10);
    const decoded = decodeEvents(Buffer.from(`[${stored.map(({ json }) => json)}]`)).map(validateEvent);
    assert.deepEqual(decoded, groups.flat());
    assert.deepEqual([spool.depth, spool.lastSeq, spool.appliedSeq], [3, 3, 0]);
  }));

test('what is refused leaves no hole in the sequence', () =>
  withSpool({}, async (spool) => {
    await spool.append([draining()]);
    const refused = spool.append([draining(), draining()], () => {
      throw new Error('no address');
    });
    const accepted = spool.append([draining()]);
    await assert.rejects(refused, /no address/);
    assert.deepEqual(
      (await accepted).map(({ seq }) => seq),
      [2],
    );
    assert.equal(spool.depth, 2);
  }));

test('a full spool refuses new events and still takes those that end something', () =>
  withSpool({ maxEvents: 2, reserveEvents: 1 }, async (spool) => {
    await spool.append([failed(), failed()]);
    await assert.rejects(spool.append([failed()]), { code: 'SPOOL_FULL' });
    assert.equal(spool.full, true);
    await spool.append([draining()]);
    await assert.rejects(spool.append([draining()]), { code: 'SPOOL_FULL' });
    await spool.trim(2);
    await spool.append([failed()]);
    assert.equal(spool.depth, 2);
  }));

test('the limit in bytes counts what is on its way to the disk', () =>
  withSpool({ maxBytes: 600, reserveBytes: 0 }, async (spool) => {
    const results = await Promise.allSettled([1, 2, 3, 4].map(() => spool.append([failed()])));
    assert.equal(results[0]?.status, 'fulfilled');
    assert.ok(results.some(({ status }) => status === 'rejected'));
    assert.ok(spool.bytes <= 600);
  }));

test('epoch, sequence and depth survive a restart; a lost file is a new epoch', () =>
  withSpool({}, async (spool, _database, reopen) => {
    await spool.append([draining(), draining(), draining()]);
    await spool.trim(1);
    const again = reopen('c'.repeat(32));
    assert.equal(again.epoch, spool.epoch);
    assert.deepEqual([again.lastSeq, again.appliedSeq, again.depth, again.bytes], [3, 1, 2, spool.bytes]);
    assert.deepEqual(
      (await again.append([draining()])).map(({ seq }) => seq),
      [4],
    );
    await withSpool({}, async (other) => {
      await other.append([draining()]);
      assert.notEqual(other.epoch, spool.epoch);
    });
  }));

test('a new epoch keeps what was appended since the copy, by each process under its own name, and drops what is older', () =>
  withSpool({}, async (spool, _database, reopen) => {
    await spool.append([draining('old'), draining('old')]);
    const once = reopen('c'.repeat(32));
    assert.deepEqual([spool.isConfirmed, once.isConfirmed, once.ownSeq], [true, false, 2]);
    await once.append([draining('new 1'), draining('new 2')]);
    const again = reopen('e'.repeat(32));
    assert.deepEqual([again.isConfirmed, again.ownSeq, again.lastSeq], [false, 2, 4]);
    const before = again.epoch;
    await Promise.all([again.append([draining('new 3')]), again.renewEpoch(), again.append([draining('new 4')])]);
    assert.notEqual(again.epoch, before);
    const events = again.read(1, 100, 100).map(({ json }) => JSON.parse(json));
    assert.deepEqual(
      events.map(({ seq, data, epoch, incarnation }) => [seq, data.reason, epoch, incarnation[0]]),
      [
        [1, 'new 1', again.epoch, 'c'],
        [2, 'new 2', again.epoch, 'c'],
        [3, 'new 3', again.epoch, 'e'],
        [4, 'new 4', again.epoch, 'e'],
      ],
    );
    assert.deepEqual([again.depth, again.lastSeq, again.appliedSeq, again.isConfirmed], [4, 4, 0, true]);
    assert.equal(
      again.bytes,
      again.read(1, 9, 9).reduce((sum, { json }) => sum + Buffer.byteLength(json), 0),
    );
  }));

test('a process that is confirmed can have published all that it appended, also where that is trimmed', () =>
  withSpool({}, async (spool, _database, reopen) => {
    await spool.append([draining()]);
    const second = reopen('c'.repeat(32));
    await second.append([draining(), draining()]);
    await second.confirm();
    const third = reopen('d'.repeat(32));
    assert.equal(third.ownSeq, 3);
    await third.append([draining()]);
    await third.trim(3);
    assert.equal(reopen('e'.repeat(32)).ownSeq, 3);
  }));

test('depth and bytes always say what is on disk', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.record({ append: fc.integer({ min: 1, max: 5 }) }), fc.record({ trim: fc.nat(30) })), {
        maxLength: 12,
      }),
      (steps) =>
        withSpool({ maxEvents: 20 }, async (spool, _database, reopen) => {
          for (const step of steps) {
            if ('trim' in step) await spool.trim(Math.min(step.trim, spool.lastSeq));
            else await spool.append(Array.from({ length: step.append }, failed)).catch(() => undefined);
          }
          const reopened = reopen(incarnation);
          assert.deepEqual(
            [spool.depth, spool.bytes, spool.lastSeq, spool.appliedSeq],
            [reopened.depth, reopened.bytes, reopened.lastSeq, reopened.appliedSeq],
          );
        }),
    ),
    { numRuns: 15 },
  ));
