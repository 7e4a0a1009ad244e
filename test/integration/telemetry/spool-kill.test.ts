import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { Spool } from '../../../data-plane/telemetry/spool.ts';
import { waitFor } from '../../support/wait-for.ts';

const program = join(import.meta.dirname, 'append-until-killed.ts');

test('what was acknowledged before a SIGKILL is there after it, in its place, and numbering goes on', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'spool-kill-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const acknowledged = new Map<number, string>();
  for (const until of [50, 150, 250]) {
    const child = spawn(process.execPath, [program, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk;
    });
    const lines = () => output.split('\n').slice(0, -1);
    await waitFor(() => lines().length >= until || child.exitCode !== null, { timeoutMs: 20_000, what: 'appends' });
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
    for (const line of lines()) {
      const { seq, reason } = JSON.parse(line) as { seq: number; reason: string };
      assert.ok(!acknowledged.has(seq), `sequence ${seq} was given twice`);
      acknowledged.set(seq, reason);
    }
  }
  const database = new NodeDatabase(directory);
  t.after(() => database.close());
  const spool = new Spool(database, { node: 'node-a', incarnation: 'b'.repeat(32) });
  const stored = spool.read(1, spool.lastSeq, spool.lastSeq).map(({ json }) => JSON.parse(json));
  assert.deepEqual(
    stored.map(({ seq }) => seq),
    Array.from({ length: spool.lastSeq }, (_, i) => i + 1),
  );
  assert.equal(new Set(stored.map(({ epoch }) => epoch)).size, 1);
  for (const [seq, reason] of acknowledged) assert.equal(stored[seq - 1]?.data.reason, reason);
  assert.ok(acknowledged.size >= 450);
});
