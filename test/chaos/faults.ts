import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ManagedProcess } from '../../deploy/local/child-process.ts';
import { childrenOf } from '../../deploy/local/process-identity.ts';
import { errorCode } from '../../shared/errors.ts';
import type { ChaosCluster } from './chaos-cluster.ts';
import { SMALL_DISK_FLEET } from './chaos-parts.ts';
import type { FaultKind } from './fault-plan.ts';
import type { Supervised } from './supervised.ts';

/** What a fault has got hold of, and how it ends. */
export interface Held {
  readonly target: string;
  heal(): void | Promise<void>;
}

export interface Fault extends FaultKind {
  /** Undefined where there is nothing to take hold of now, e.g. no undisturbed leader. */
  inject(chaos: ChaosCluster, pick: number): Promise<Held | undefined>;
}

const SHORT = [300, 3_000] as const;
/** From less to more than what it takes to be taken for dead. */
const LONG = [1_000, 8_000] as const;
const MIN_DELAY_MS = 50;
const MAX_DELAY_MS = 400;

const choose = <T>(items: readonly T[], pick: number): T => items[Math.floor(pick * items.length)] as T;

async function kill(process: Supervised): Promise<Held> {
  await process.kill();
  return { target: process.name, heal: () => process.release() };
}

async function freeze(process: Supervised): Promise<Held> {
  process.freeze();
  return { target: process.name, heal: () => process.thaw() };
}

const onNode = (act: (process: Supervised) => Promise<Held>) => async (chaos: ChaosCluster, pick: number) => {
  const process = choose(chaos.nodes, pick);
  return process.isDisturbed || !process.service.running() ? undefined : act(process);
};

const onFleet = (act: (process: Supervised) => Promise<Held>) => async (chaos: ChaosCluster, pick: number) => {
  const process = choose(chaos.fleetProcesses, pick);
  return process.isDisturbed || !process.service.running() ? undefined : act(process);
};

const onReplica =
  (role: 'leader' | 'standby', act: (process: Supervised) => Promise<Held>) => async (chaos: ChaosCluster) => {
    const { process } = chaos.roles[role];
    if (process.isDisturbed || !process.service.running()) return undefined;
    const held = await act(process);
    return { ...held, target: `${held.target} (${role})` };
  };

/** A process and those that it started: a frozen server serves nobody. */
function signalFamily({ pid }: ManagedProcess, signal: NodeJS.Signals): void {
  for (const member of [pid, ...childrenOf(pid)]) {
    try {
      process.kill(member, signal);
    } catch (error) {
      // It has ended meanwhile.
      if (errorCode(error) !== 'ESRCH') throw error;
    }
  }
}

const MANY_TIMES = 20;

/** Servers that were killed may need more than one attempt. */
async function again(start: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await start();
      return;
    } catch (error) {
      if (attempt === MANY_TIMES) throw error;
    }
  }
}

/** All that can go wrong. */
export const FAULTS: readonly Fault[] = [
  { name: 'node killed', on: 'nodes', holdMs: SHORT, inject: onNode(kill) },
  { name: 'node frozen', on: 'nodes', holdMs: LONG, inject: onNode(freeze) },
  { name: 'simulated nodes killed', on: 'fleets', holdMs: SHORT, inject: onFleet(kill) },
  { name: 'simulated nodes frozen', on: 'fleets', holdMs: LONG, inject: onFleet(freeze) },
  { name: 'leader killed', on: 'replicas', holdMs: SHORT, inject: onReplica('leader', kill) },
  { name: 'leader frozen', on: 'replicas', holdMs: LONG, inject: onReplica('leader', freeze) },
  { name: 'standby killed', on: 'replicas', holdMs: SHORT, inject: onReplica('standby', kill) },
  { name: 'standby frozen', on: 'replicas', holdMs: LONG, inject: onReplica('standby', freeze) },
  {
    name: 'NATS killed',
    on: 'nats',
    holdMs: SHORT,
    async inject({ cluster }) {
      await cluster.nats().kill();
      return { target: 'nats-server', heal: () => again(() => cluster.restartNats()) };
    },
  },
  {
    name: 'NATS frozen',
    on: 'nats',
    holdMs: LONG,
    async inject({ cluster }) {
      const { process } = cluster.nats();
      process.signal('SIGSTOP');
      return { target: 'nats-server', heal: () => process.signal('SIGCONT') };
    },
  },
  {
    name: 'NATS from an older copy',
    on: 'nats',
    holdMs: LONG,
    async inject({ cluster }) {
      const store = join(cluster.directory, 'nats', 'store');
      const copy = join(cluster.directory, 'nats-copy');
      await cluster.nats().stop();
      cpSync(store, copy, { recursive: true });
      await again(() => cluster.restartNats());
      return {
        target: 'nats-server',
        async heal() {
          await cluster.nats().kill();
          rmSync(store, { recursive: true });
          cpSync(copy, store, { recursive: true });
          rmSync(copy, { recursive: true });
          await again(() => cluster.restartNats());
        },
      };
    },
  },
  {
    name: 'Postgres killed',
    on: 'postgres',
    holdMs: SHORT,
    async inject({ cluster }) {
      await cluster.postgres().kill();
      return { target: 'postgres', heal: () => again(() => cluster.restartPostgres()) };
    },
  },
  {
    name: 'Postgres frozen',
    on: 'postgres',
    holdMs: LONG,
    async inject({ cluster }) {
      const { process } = cluster.postgres();
      signalFamily(process, 'SIGSTOP');
      return { target: 'postgres', heal: () => signalFamily(process, 'SIGCONT') };
    },
  },
  {
    name: 'node cut off from NATS',
    on: 'node links',
    holdMs: LONG,
    async inject({ cluster }, pick) {
      const { id } = choose(cluster.nodes, pick);
      await cluster.cutFromNats(id);
      return { target: id, heal: () => cluster.rejoinNats(id) };
    },
  },
  {
    name: 'link cut',
    on: 'fleet link',
    holdMs: LONG,
    async inject({ fleetLink }) {
      fleetLink.set({ kind: 'cut' });
      return { target: 'simulated nodes to NATS', heal: () => fleetLink.set({ kind: 'open', delayMs: 0 }) };
    },
  },
  {
    name: 'link delayed',
    on: 'fleet link',
    holdMs: LONG,
    async inject({ fleetLink }, pick) {
      const delayMs = Math.round(MIN_DELAY_MS + pick * (MAX_DELAY_MS - MIN_DELAY_MS));
      fleetLink.set({ kind: 'open', delayMs });
      return {
        target: `simulated nodes to NATS, ${delayMs} ms`,
        heal: () => fleetLink.set({ kind: 'open', delayMs: 0 }),
      };
    },
  },
  {
    name: 'link stalled',
    on: 'replica links',
    holdMs: LONG,
    async inject({ natsLink, postgresLink }, pick) {
      const [link, target] = choose([[natsLink, 'NATS'] as const, [postgresLink, 'Postgres'] as const], pick);
      link.set({ kind: 'stalled' });
      return { target: `control-plane-2 to ${target}`, heal: () => link.set({ kind: 'open', delayMs: 0 }) };
    },
  },
  {
    name: 'disk full',
    on: 'disk',
    holdMs: LONG,
    async inject({ disk }) {
      disk.fill();
      return { target: SMALL_DISK_FLEET, heal: () => disk.empty() };
    },
  },
];
