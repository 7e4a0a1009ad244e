import type { NewEvent } from '../../shared/events/envelope.ts';
import { isHostPrefix, parsePrefix } from '../../shared/ip/prefix.ts';

/** How long after a lease's end its block is taken back (ours): room for clocks that run at different speeds. */
export const RECLAIM_GRACE_MS = 120_000;
/** The same for a block of one static address, whose lease is a minute. Its client waits for it. */
export const STATIC_RECLAIM_GRACE_MS = 10_000;

/** How long after the end of its lease a block is taken back, milliseconds. */
export function reclaimGraceMs(block: string): number {
  return isHostPrefix(parsePrefix(block)) ? STATIC_RECLAIM_GRACE_MS : RECLAIM_GRACE_MS;
}

/** One block of a pool: granted to a node until its lease ends, or free. Times are milliseconds since 1970, by Postgres' clock. */
export type BlockState =
  | { readonly status: 'free'; readonly previousNode: string | null; readonly freedAt: number | null }
  | { readonly status: 'granted'; readonly node: string; readonly leaseEnd: number };

/** The state after `version` events; version 0 is a block that was never granted. */
export interface BlockAggregate {
  readonly block: string;
  readonly pool: string;
  readonly version: number;
  readonly state: BlockState;
}

export type BlockEvent = NewEvent<'block.granted' | 'block.renewed' | 'block.returned' | 'block.reclaimed'>;

export type BlockCommand =
  | { readonly type: 'grant'; readonly node: string; readonly now: number; readonly leaseMs: number }
  | { readonly type: 'renew'; readonly node: string; readonly now: number; readonly leaseMs: number }
  | { readonly type: 'return'; readonly node: string; readonly now: number }
  | { readonly type: 'reclaim'; readonly now: number };

/** Why a command changes nothing. */
export type BlockRefusal = 'already_granted' | 'not_held' | 'not_due';

export type BlockDecision =
  | { readonly ok: true; readonly event: BlockEvent }
  | { readonly ok: false; readonly refusal: BlockRefusal };

export function newBlock(block: string, pool: string): BlockAggregate {
  return { block, pool, version: 0, state: { status: 'free', previousNode: null, freedAt: null } };
}

/** Which event a command leads to, if any. Pure: time comes with the command. */
export function decide(aggregate: BlockAggregate, command: BlockCommand): BlockDecision {
  const { block, pool, state } = aggregate;
  const at = new Date(command.now).toISOString();
  switch (command.type) {
    case 'grant': {
      if (state.status === 'granted') return refuse('already_granted');
      const leaseEnd = new Date(command.now + command.leaseMs).toISOString();
      return accept({ type: 'block.granted', at, data: { block, pool, node: command.node, leaseEnd } });
    }
    case 'renew': {
      if (state.status !== 'granted' || state.node !== command.node) return refuse('not_held');
      // A renewal never shortens what the node was promised before, e.g. when LEASE_SECONDS was lowered.
      const leaseEnd = new Date(Math.max(state.leaseEnd, command.now + command.leaseMs)).toISOString();
      return accept({ type: 'block.renewed', at, data: { block, pool, node: command.node, leaseEnd } });
    }
    case 'return': {
      if (state.status !== 'granted' || state.node !== command.node) return refuse('not_held');
      return accept({ type: 'block.returned', at, data: { block, pool, node: command.node } });
    }
    case 'reclaim': {
      if (state.status !== 'granted') return refuse('not_held');
      if (command.now < state.leaseEnd + reclaimGraceMs(block)) return refuse('not_due');
      const leaseEnd = new Date(state.leaseEnd).toISOString();
      return accept({ type: 'block.reclaimed', at, data: { block, pool, node: state.node, leaseEnd } });
    }
    default:
      return command satisfies never;
  }
}

/** The aggregate after one more event. */
export function evolve(aggregate: BlockAggregate, event: BlockEvent): BlockAggregate {
  return { ...aggregate, version: aggregate.version + 1, state: nextState(event) };
}

function nextState(event: BlockEvent): BlockState {
  switch (event.type) {
    case 'block.granted':
    case 'block.renewed':
      return { status: 'granted', node: event.data.node, leaseEnd: Date.parse(event.data.leaseEnd) };
    case 'block.returned':
    case 'block.reclaimed':
      return { status: 'free', previousNode: event.data.node, freedAt: Date.parse(event.at) };
    default:
      return event satisfies never;
  }
}

const accept = (event: BlockEvent): BlockDecision => ({ ok: true, event });
const refuse = (refusal: BlockRefusal): BlockDecision => ({ ok: false, refusal });
