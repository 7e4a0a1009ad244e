import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ip } from './ip-command.ts';
import { hubEnd, removeSlotNetwork } from './netns-topology.ts';
import { identifyProcess, isAlive, type ProcessIdentity, signalProcess } from './process-identity.ts';
import { readIfPresent, writePrivateFile } from './secret-file.ts';
import { SLOTS, slotPrefix } from './topology-plan.ts';

/** Not kept over a reboot, as namespaces and processes are not. */
const RECORD_DIRECTORY = '/run/masque-vpn';
/** An abstract socket as a mutex between launchers: the kernel frees it when its holder dies. */
const LOCK_NAME = '\0masque-vpn-slots';
const LOCK_RETRY_MS = 20;
const LOCK_TIMEOUT_MS = 30_000;

interface SlotRecord {
  readonly owner: ProcessIdentity;
  /** Processes outside of the slot's namespaces; those inside are found by their namespace. */
  readonly processes: readonly ProcessIdentity[];
}

/** Takes the first free slot for this process; what a dead owner left behind in one is removed on the way. */
export function claimSlot(): Promise<number> {
  return withLock(async () => {
    const owner = identifyProcess(process.pid) as ProcessIdentity;
    for (let slot = 0; slot < SLOTS; slot++) {
      const record = readRecord(slot);
      if (record !== undefined && isAlive(record.owner)) continue;
      if (record !== undefined || existsSync(`/sys/class/net/${slotPrefix(slot)}`)) await cleanSlot(slot, record);
      writeRecord(slot, { owner, processes: [] });
      const name = slotPrefix(slot);
      await ip('link', 'add', name, 'type', 'veth', 'peer', 'name', hubEnd(name));
      return slot;
    }
    throw new Error(`all ${SLOTS} slots for local clusters are taken (see ${RECORD_DIRECTORY})`);
  });
}

/** Notes a process that must end with the slot, for the case that nobody else is left to end it. */
export function recordInSlot(slot: number, identity: ProcessIdentity): void {
  const record = readRecord(slot);
  if (record !== undefined) writeRecord(slot, { ...record, processes: [...record.processes, identity] });
}

/** Removes a slot's network and frees it, if `owner` still has it. Safe to call twice, and from two processes. */
export function releaseSlot(slot: number, owner: ProcessIdentity): Promise<void> {
  return withLock(async () => {
    const record = readRecord(slot);
    if (record?.owner.pid === owner.pid && record.owner.startTime === owner.startTime) await cleanSlot(slot, record);
  });
}

async function cleanSlot(slot: number, record: SlotRecord | undefined): Promise<void> {
  for (const identity of record?.processes ?? []) signalProcess(identity, 'SIGKILL');
  await removeSlotNetwork(slot);
  rmSync(recordFile(slot), { force: true });
}

const recordFile = (slot: number): string => join(RECORD_DIRECTORY, `${slot}.json`);

function readRecord(slot: number): SlotRecord | undefined {
  const text = readIfPresent(recordFile(slot));
  return text === undefined ? undefined : (JSON.parse(text) as SlotRecord);
}

function writeRecord(slot: number, record: SlotRecord): void {
  writePrivateFile(recordFile(slot), JSON.stringify(record));
}

async function withLock<T>(action: () => Promise<T>): Promise<T> {
  mkdirSync(RECORD_DIRECTORY, { recursive: true, mode: 0o755 });
  const server = createServer();
  const deadline = performance.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    const taken = await new Promise<boolean>((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error));
      server.once('error', onError);
      server.listen(LOCK_NAME, () => {
        server.off('error', onError);
        resolve(true);
      });
    });
    if (taken) break;
    if (performance.now() > deadline) throw new Error('another launcher holds the lock of the slots for too long');
    await delay(LOCK_RETRY_MS);
  }
  try {
    return await action();
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}
