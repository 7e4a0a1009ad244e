import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { JanitorMessage, Leftover } from './janitor.ts';
import { isAlive, signalProcess } from './process-identity.ts';
import { releaseSlot } from './slots.ts';
import { waitFor } from './wait-for.ts';

/** What is left of an ordered end when the launcher is gone. */
const STOP_DEADLINE_MS = 5_000;
const KILL_DEADLINE_MS = 5_000;

// The launcher's pipe is the only thing that ends this process; signals meant for the launcher do not.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);

const leftovers = new Map<string, Leftover>();
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as JanitorMessage;
  if (message.add !== undefined) leftovers.set(JSON.stringify(message.add), message.add);
  if (message.remove !== undefined) leftovers.delete(JSON.stringify(message.remove));
}
await cleanUp([...leftovers.values()]);

async function cleanUp(items: readonly Leftover[]): Promise<void> {
  const processes = items.filter((item) => item.kind === 'process');
  const allGone = () => processes.every((item) => !isAlive(item.identity));
  for (const item of processes) signalProcess(item.identity, item.stopSignal);
  await waitFor(allGone, { timeoutMs: STOP_DEADLINE_MS, what: 'processes to stop' }).catch(() => undefined);
  for (const item of processes) signalProcess(item.identity, 'SIGKILL');
  await waitFor(allGone, { timeoutMs: KILL_DEADLINE_MS, what: 'processes to end' }).catch(() => undefined);
  for (const item of items) if (item.kind === 'slot') await releaseSlot(item.slot, item.owner).catch(() => undefined);
  for (const item of items) if (item.kind === 'mount') spawnSync('umount', ['--lazy', item.path]);
  for (const item of items) if (item.kind === 'path') rmSync(item.path, { recursive: true, force: true });
}
