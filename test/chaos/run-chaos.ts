import { setTimeout as delay } from 'node:timers/promises';
import { createDatabase, createPool } from '../../control-plane/storage/database.ts';
import { type Check, same } from '../../deploy/local/checks.ts';
import { describeError } from '../../shared/errors.ts';
import { differencesOf } from '../support/differences-of.ts';
import type { ChaosCluster } from './chaos-cluster.ts';
import { SMALL_DISK_FLEET } from './chaos-parts.ts';
import { CounterWatch } from './counter-watch.ts';
import { type PlannedFault, planFaults } from './fault-plan.ts';
import { FAULTS, type Fault, type Held } from './faults.ts';
import { checkDatabase, checkDepths, checkMetrics, checkSpools, readApplied } from './invariants.ts';
import { checkGrowth, growthOf, some, takeStock } from './stock.ts';
import type { UnexpectedEnd } from './supervised.ts';

export interface InjectedFault {
  /** Seconds after the begin. */
  readonly at: number;
  readonly fault: string;
  /** Null: there was nothing to take hold of. */
  readonly target: string | null;
  readonly seconds: number;
}

export interface ChaosResult {
  readonly ok: boolean;
  readonly seed: number;
  readonly seconds: number;
  readonly faults: readonly InjectedFault[];
  readonly checks: readonly Check[];
  /** What happened meanwhile. */
  readonly figures: Readonly<Record<string, number>>;
  readonly unexpectedEnds: readonly UnexpectedEnd[];
}

export interface ChaosOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly progress: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** One run of faults, and what holds after it. An error of a run that does not get there has its seed and what was done. */
export async function runChaos(chaos: ChaosCluster, options: ChaosOptions): Promise<ChaosResult> {
  const { seed, seconds, signal } = options;
  const watch = new CounterWatch(chaos.replicas.map(({ url }) => url));
  const done: string[] = [];
  const progress = (line: string) => {
    done.push(line);
    options.progress(line);
  };
  try {
    return await run(chaos, watch, { ...options, progress });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new Error(`${describeError(cause)}\nseed ${seed}, ${seconds} s:\n${done.join('\n')}`, { cause });
  } finally {
    await watch.stop();
  }
}

async function run(chaos: ChaosCluster, watch: CounterWatch, options: ChaosOptions): Promise<ChaosResult> {
  const { seed, seconds, progress } = options;
  const [before] = await chaos.cluster.sql<{ term: string }>('SELECT owner_epoch AS term FROM leadership');
  const stockBefore = await takeStock(chaos);
  await chaos.begin();
  watch.start();
  const faults = await disturb(chaos, planFaults(FAULTS, seed, seconds), options);
  progress('all faults are over, draining');
  await chaos.untilReady();
  watch.expectAnswers();
  const downloaded = await chaos.drain();
  const checks = await checkMetrics(chaos);
  const known = await readApplied(chaos);
  checks.push(...(await checkDepths(chaos)));
  await watch.stop();
  const targets = faults.filter(({ target }) => target !== null).length;
  checks.push(
    same('no counter ever went down between scrapes', [], watch.falls),
    same('every scrape was answered, but by what a fault had hold of', [], watch.errors),
    some('there were scrapes of the cluster under faults', watch.scrapes.disturbed),
    some('there were scrapes of the cluster after them', watch.scrapes.quiet),
    some('faults had something to take hold of', targets),
    ...Object.entries(downloaded).map(([id, bytes]) => some(`${id}: its tunnel carried downloads (bytes)`, bytes)),
  );
  progress('all events are committed, stopping the nodes');
  await chaos.stopNodes();
  progress('looking whether all holds');
  checks.push(...(await checkSpools(chaos, known)), ...(await checkDatabase(chaos)), await checkRebuilt(chaos));
  const growth = growthOf(stockBefore, await takeStock(chaos));
  checks.push(...checkGrowth(growth));
  const unexpectedEnds = chaos.processes.flatMap((process) => process.takeUnexpected());
  // Those on the small disk may: they cannot begin while it is full.
  const ended = unexpectedEnds.filter(({ process }) => process !== SMALL_DISK_FLEET);
  checks.push(same('no process ended by itself', [], ended));
  const [after] = await chaos.cluster.sql<{ term: string; events: string; connections: string }>(
    `SELECT owner_epoch AS term, (SELECT count(*) FROM events) AS events,
       (SELECT count(*) FROM connections) AS connections FROM leadership`,
  );
  return {
    ok: checks.every(({ ok }) => ok),
    seed,
    seconds,
    faults,
    checks,
    figures: {
      events: Number(after?.events),
      connections: Number(after?.connections),
      takeovers: Number(after?.term) - Number(before?.term),
      targets,
      accepted: [...growth.values()].reduce((sum, { accepted = 0 }) => sum + accepted, 0),
      downloaded: Object.values(downloaded).reduce((sum, bytes) => sum + bytes, 0),
      'scrapes under faults': watch.scrapes.disturbed,
      'after them': watch.scrapes.quiet,
      unanswered: watch.unanswered,
    },
    unexpectedEnds,
  };
}

/** Injects what is planned, each at its time, and ends it after its time. Returns when all have ended. */
async function disturb(
  chaos: ChaosCluster,
  planned: readonly PlannedFault<Fault>[],
  { seconds, progress, signal }: ChaosOptions,
): Promise<InjectedFault[]> {
  const startedAt = performance.now();
  const until = (ms: number) => delay(Math.max(0, startedAt + ms - performance.now()), undefined, { signal });
  const lastOn = new Map<string, Promise<unknown>>();
  const one = async (
    { kind, atMs, holdMs, pick }: PlannedFault<Fault>,
    previous: Promise<unknown> | undefined,
  ): Promise<InjectedFault> => {
    await until(atMs);
    // To heal takes time too.
    await previous;
    let held: Held | undefined;
    try {
      held = await kind.inject(chaos, pick);
      if (held !== undefined) {
        progress(`${kind.name}: ${held.target}, for ${(holdMs / 1_000).toFixed(1)} s`);
        await delay(holdMs, undefined, { signal });
      }
    } catch (cause) {
      throw new Error(`${kind.name}: ${describeError(cause)}`, { cause });
    } finally {
      await held?.heal();
    }
    const target = held?.target ?? null;
    return { at: atMs / 1_000, fault: kind.name, target, seconds: target === null ? 0 : holdMs / 1_000 };
  };
  const injected = await Promise.all(
    planned.map((fault) => {
      const { on } = fault.kind;
      const done = one(fault, lastOn.get(on));
      lastOn.set(on, done);
      return done;
    }),
  );
  await until(seconds * 1_000);
  return injected;
}

async function checkRebuilt({ cluster }: ChaosCluster): Promise<Check> {
  const database = createDatabase(createPool(cluster.databaseUrl, 'masque-vpn chaos', () => undefined));
  try {
    return same('rebuilt equals live', [], await differencesOf(database));
  } finally {
    await database.destroy();
  }
}
