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
}

interface Spool<E> {
  state: EpochState;
  readonly waiting: Map<number, { readonly event: E; readonly stored: boolean }>;
  /** Stored ones that are not at hand, because nothing of this batch can release them. */
  readonly absent: Set<number>;
}

/** The last of what can be applied behind `appliedSeq` without a hole, given everything that is there. */
export function endOfRun(appliedSeq: number, seqs: ReadonlySet<number>): number {
  let end = appliedSeq;
  while (seqs.has(end + 1)) end++;
  return end;
}

/**
 * Sorts incoming events into repeats, those to apply, and those to park. `known` has the states of all spools of the
 * nodes that `incoming` names, `parked` the stored events that it can release: those that it continues without a hole, and
 * all of a spool that it replaces. `absent` has the keys of other stored ones; those that `incoming` repeats must be there.
 * A spool that was never seen replaces its node's current one: what the old one lacks becomes gaps, and what was parked
 * behind them is released. Pure.
 */
export function sequence<E extends Sequenced>(
  known: readonly EpochState[],
  parked: readonly E[],
  incoming: readonly E[],
  absent: readonly SequenceKey[] = [],
): SequenceResult<E> {
  const spools = new Map<string, Spool<E>>();
  const currentOf = new Map<string, Spool<E>>();
  const result: SequenceResult<E> & { repeats: number } = {
    apply: [],
    park: [],
    unpark: [],
    gaps: [],
    epochs: [],
    repeats: 0,
  };
  for (const state of known) {
    const spool: Spool<E> = { state, waiting: new Map(), absent: new Set() };
    spools.set(keyOf(state), spool);
    if (state.current) currentOf.set(state.node, spool);
  }
  for (const event of parked) spools.get(keyOf(event))?.waiting.set(event.seq, { event, stored: true });
  for (const key of absent) spools.get(keyOf(key))?.absent.add(key.seq);

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
  const replace = (old: Spool<E>, replacedBy: string) => {
    const { node, epoch } = old.state;
    for (const seq of [...old.waiting.keys()].sort((a, b) => a - b)) {
      const fromSeq = old.state.appliedSeq + 1;
      if (seq > fromSeq) result.gaps.push({ node, epoch, fromSeq, toSeq: seq - 1, replacedBy });
      release(old, seq);
    }
    old.state = { ...old.state, current: false };
  };
  const begin = ({ node, epoch }: E): Spool<E> => {
    const old = currentOf.get(node);
    if (old) replace(old, epoch);
    const state: EpochState = { node, epoch, appliedSeq: 0, current: true, firstAt: null, lastAt: null };
    const spool: Spool<E> = { state, waiting: new Map(), absent: new Set() };
    spools.set(keyOf(state), spool);
    currentOf.set(node, spool);
    return spool;
  };

  for (const event of incoming) {
    const spool = spools.get(keyOf(event)) ?? begin(event);
    const next = spool.state.appliedSeq + 1;
    if (event.seq < next || spool.waiting.has(event.seq) || spool.absent.has(event.seq)) {
      result.repeats += 1;
    } else if (event.seq > next) {
      spool.waiting.set(event.seq, { event, stored: false });
    } else {
      apply(spool, event);
      while (spool.waiting.has(spool.state.appliedSeq + 1)) release(spool, spool.state.appliedSeq + 1);
      if (spool.absent.has(spool.state.appliedSeq + 1))
        throw new Error(`${keyOf(event)}: a parked event is not at hand`);
    }
  }

  const given = new Set(known);
  for (const { state, waiting } of spools.values()) {
    if (!given.has(state)) result.epochs.push(state);
    for (const { event, stored } of waiting.values()) if (!stored) result.park.push(event);
  }
  return result;
}

function keyOf({ node, epoch }: { node: string; epoch: string }): string {
  return `${node}/${epoch}`;
}
