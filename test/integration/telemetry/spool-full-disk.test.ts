import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { Spool } from '../../../data-plane/telemetry/spool.ts';
import type { NewEvent } from '../../../shared/events/envelope.ts';
import { SmallDisk } from '../../chaos/small-disk.ts';
import { needsRoot } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';

const skip = needsRoot();
const DISK_MEGABYTES = 24;
const TIMEOUT_MS = 10_000;
const at = '2026-01-01T00:00:00.000Z';
const end: NewEvent = { type: 'node.stopped', at, data: { reason: 'x'.repeat(900) } };
const failure: NewEvent = {
  type: 'connection.failed',
  at,
  data: {
    remoteAddress: '192.0.2.1',
    clientId: null,
    status: 503,
    reason: 'x'.repeat(900),
    errorType: 'connection',
    count: 1,
  },
};

async function startSpool(t: TestContext): Promise<{ spool: Spool; disk: SmallDisk }> {
  const directory = mkdtempSync(join(tmpdir(), 'full-disk-'));
  const disk = await SmallDisk.mount(directory, DISK_MEGABYTES);
  const database = new NodeDatabase(join(disk.directory, 'state'));
  t.after(async () => {
    database.close();
    await disk.unmount();
    rmSync(directory, { recursive: true, force: true });
  });
  return { spool: new Spool(database, { node: 'node-a', incarnation: 'b'.repeat(32) }), disk };
}

/** Until the spool refuses; answers with what it says. */
async function fill(spool: Spool): Promise<unknown> {
  try {
    for (;;) await spool.append(new Array<NewEvent>(100).fill(failure));
  } catch (error) {
    return error;
  }
}

const untilTaken = (spool: Spool) =>
  waitFor(() => spool.append([failure]).then(Boolean, () => false), {
    timeoutMs: TIMEOUT_MS,
    what: 'room in the spool',
  });

test('a spool that fills its disk refuses what can wait, has room for ends, and for what is committed to be deleted', {
  skip,
}, async (t) => {
  const { spool } = await startSpool(t);
  const refusal = await fill(spool);
  assert.match(String(refusal), /the disk of the spool has \d+ bytes left/);
  assert.equal((refusal as { code: string }).code, 'SPOOL_FULL');
  const full = spool.lastSeq;
  for (let i = 0; i < 100; i++) await spool.append([end]);
  assert.equal(spool.lastSeq, full + 100, 'no number is given to what was refused');
  await spool.trim(full);
  assert.equal(spool.depth, 100);
});

test('a disk that others fill refuses everything, and all goes on when there is room again', { skip }, async (t) => {
  const { spool, disk } = await startSpool(t);
  await spool.append([end, end]);
  disk.fill();
  await assert.rejects(
    async () => {
      for (;;) await spool.append([end]);
    },
    { code: 'STATE_WRITE_FAILED' },
  );
  const last = spool.lastSeq;
  disk.empty();
  await untilTaken(spool);
  assert.equal(spool.lastSeq, last + 1);
  await spool.trim(last);
  assert.deepEqual([spool.depth, spool.appliedSeq], [1, last]);
});
