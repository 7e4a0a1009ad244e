/** What orders an event: (node, epoch, seq). */
export interface Sequenced {
  readonly node: string;
  readonly epoch: string;
  readonly seq: number;
  readonly at: string;
}

export type SequenceKey = Pick<Sequenced, 'node' | 'epoch' | 'seq'>;

/** How far one spool is applied. */
export interface EpochState {
  readonly node: string;
  readonly epoch: string;
  readonly appliedSeq: number;
  /** The newest spool of its node. */
  readonly current: boolean;
  /** The sender's time of the first and the newest applied event; null before the first. */
  readonly firstAt: string | null;
  readonly lastAt: string | null;
}

export interface Gap {
  readonly node: string;
  readonly epoch: string;
  readonly fromSeq: number;
  readonly toSeq: number;
  readonly replacedBy: string;
}

/** What is stored of the spools in question because something before it lacks. */
export interface ParkedEvents<E extends Sequenced> {
  /** Those at hand: of each spool from the first on, as far as they can be released now. */
  readonly loaded: readonly E[];
  /** Others that are known to be stored. Those that `incoming` repeats, and those that follow what is at hand, have to be there. */
  readonly absent: readonly SequenceKey[];
  /** How many are stored, of each spool (`spoolKey`) of which something comes that is further ahead than `maxParked`. */
  readonly counts: ReadonlyMap<string, number>;
  /** Spools (`spoolKey`) that are about to be replaced, and by what: all that is at hand is released. */
  readonly draining: ReadonlyMap<string, string>;
}

export const NOTHING_PARKED: ParkedEvents<never> = { loaded: [], absent: [], counts: new Map(), draining: new Map() };

export interface SequenceResult<E extends Sequenced> {
  /** In the order in which they are to be applied; some were parked before. */
  readonly apply: E[];
  /** Arrived before one that precedes them: to be stored until that one is there. */
  readonly park: E[];
  /** Stored ones that are among `apply`. */
  readonly unpark: E[];
  readonly gaps: Gap[];
  /** Every state that differs from what was given. */
  readonly epochs: EpochState[];
  readonly repeats: number;
  /** Neither applied nor stored, since too many wait already: their nodes send them again. */
  readonly refused: E[];
  /** What continues a spool is stored, but was not at hand. */
  readonly isMoreReady: boolean;
}

interface Spool<E> {
  state: EpochState;
  readonly waiting: Map<number, { readonly event: E; readonly stored: boolean }>;
  /** Stored ones that are not at hand. */
  readonly absent: Set<number>;
  /** How many are stored or about to be; not counted while there are too few to matter. */
  count: number;
}

/** The last of what can be applied behind `appliedSeq` without a hole, given everything that is there. */
export function endOfRun(appliedSeq: number, seqs: ReadonlySet<number>): number {
  let end = appliedSeq;
  while (seqs.has(end + 1)) end++;
  return end;
}

/**
 * Sorts incoming events into repeats, those to apply, and those to park, at most `maxParked` of a spool. `known` has the states of
 * all spools of the nodes that `incoming` names. A spool that was never seen replaces its node's current one: what the old one
 * lacks becomes gaps, and what was parked behind them, all of which has to be at hand then, is released. Pure.
 */
export function sequence<E extends Sequenced>(
  known: readonly EpochState[],
  parked: ParkedEvents<E>,
  incoming: readonly E[],
  maxParked: number,
): SequenceResult<E> {
  const spools = new Map<string, Spool<E>>();
  const currentOf = new Map<string, Spool<E>>();
  const result: SequenceResult<E> & { repeats: number; isMoreReady: boolean } = {
    apply: [],
    park: [],
    unpark: [],
    gaps: [],
    epochs: [],
    repeats: 0,
    refused: [],
    isMoreReady: false,
  };
  for (const state of known) {
    const count = parked.counts.get(spoolKey(state)) ?? 0;
    const spool: Spool<E> = { state, waiting: new Map(), absent: new Set(), count };
    spools.set(spoolKey(state), spool);
    if (state.current) currentOf.set(state.node, spool);
  }
  for (const event of parked.loaded) spools.get(spoolKey(event))?.waiting.set(event.seq, { event, stored: true });
  for (const key of parked.absent) spools.get(spoolKey(key))?.absent.add(key.seq);

  const apply = (spool: Spool<E>, event: E) => {
    const { state } = spool;
    spool.state = { ...state, appliedSeq: event.seq, firstAt: state.firstAt ?? event.at, lastAt: event.at };
    result.apply.push(event);
  };
  const release = (spool: Spool<E>, seq: number) => {
    const waiting = spool.waiting.get(seq)!;
    spool.waiting.delete(seq);
    if (waiting.stored) result.unpark.push(waiting.event);
    apply(spool, waiting.event);
  };
  const releaseRun = (spool: Spool<E>) => {
    while (spool.waiting.has(spool.state.appliedSeq + 1)) release(spool, spool.state.appliedSeq + 1);
  };
  const releaseAll = (spool: Spool<E>, replacedBy: string) => {
    const { node, epoch } = spool.state;
    for (const seq of [...spool.waiting.keys()].sort((a, b) => a - b)) {
      const fromSeq = spool.state.appliedSeq + 1;
      if (seq > fromSeq) result.gaps.push({ node, epoch, fromSeq, toSeq: seq - 1, replacedBy });
      release(spool, seq);
    }
  };
  const begin = ({ node, epoch }: E): Spool<E> => {
    const old = currentOf.get(node);
    if (old) {
      releaseAll(old, epoch);
      old.state = { ...old.state, current: false };
    }
    const state: EpochState = { node, epoch, appliedSeq: 0, current: true, firstAt: null, lastAt: null };
    const spool: Spool<E> = { state, waiting: new Map(), absent: new Set(), count: 0 };
    spools.set(spoolKey(state), spool);
    currentOf.set(node, spool);
    return spool;
  };

  for (const [key, spool] of spools) {
    const replacedBy = parked.draining.get(key);
    if (replacedBy === undefined) releaseRun(spool);
    else releaseAll(spool, replacedBy);
  }
  for (const event of incoming) {
    const spool = spools.get(spoolKey(event)) ?? begin(event);
    const { appliedSeq } = spool.state;
    if (event.seq <= appliedSeq || spool.waiting.has(event.seq) || spool.absent.has(event.seq)) {
      result.repeats += 1;
    } else if (event.seq === appliedSeq + 1) {
      apply(spool, event);
      releaseRun(spool);
    } else if (event.seq > appliedSeq + maxParked && spool.count >= maxParked) {
      result.refused.push(event);
    } else {
      spool.waiting.set(event.seq, { event, stored: false });
      spool.count += 1;
    }
  }

  const given = new Set(known);
  for (const { state, waiting, absent } of spools.values()) {
    if (!given.has(state)) result.epochs.push(state);
    if (absent.has(state.appliedSeq + 1)) result.isMoreReady = true;
    for (const { event, stored } of waiting.values()) if (!stored) result.park.push(event);
  }
  return result;
}

export function spoolKey({ node, epoch }: { readonly node: string; readonly epoch: string }): string {
  return `${node}/${epoch}`;
}
