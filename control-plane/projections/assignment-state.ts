import type { VpnEvent } from '../../shared/events/envelope.ts';
import type { BlockGrant } from './block-grants.ts';
import { clampEnd, rangesOverlap } from './time-range.ts';

/** One client's hold on one address. Times are milliseconds since 1970; `until` null while it is held. */
export interface Assignment {
  readonly address: string;
  readonly pool: string;
  readonly block: string;
  readonly clientId: string;
  readonly node: string;
  readonly connectionId: string;
  readonly from: number;
  readonly until: number | null;
  readonly endReason: string | null;
  readonly assignedPosition: number;
  readonly endedPosition: number | null;
}

export type AssignmentDecision =
  | { readonly type: 'assigned'; readonly assignment: Assignment }
  /** The connection holds the address already. */
  | { readonly type: 'repeated' }
  | { readonly type: 'conflict'; readonly holder: Assignment };

/**
 * Whether an assignment can stand beside those that the address had; it lies within its block's `grant`. One that arrives late, when
 * the grant is over, is over with it: the node closed its tunnels then, and the release is still on its way.
 */
export function decideAssignment(
  others: readonly Assignment[],
  event: VpnEvent<'address.assigned'>,
  position: number,
  grant: BlockGrant | undefined,
): AssignmentDecision {
  const from = beginOf(others, event, grant);
  const over = grant?.until ?? null;
  const { address, pool, block, clientId, connectionId } = event.data;
  const assignment: Assignment = {
    address,
    pool,
    block,
    clientId,
    node: event.node,
    connectionId,
    from,
    until: over === null ? null : clampEnd(from, over),
    endReason: over === null ? null : (grant?.endReason ?? null),
    assignedPosition: position,
    endedPosition: over === null ? null : (grant?.endedPosition ?? null),
  };
  const holder = others.find((other) => rangesOverlap(other, assignment));
  if (holder === undefined) return { type: 'assigned', assignment };
  return holder.connectionId === connectionId ? { type: 'repeated' } : { type: 'conflict', holder };
}

/**
 * When an assignment began. Clocks of nodes differ, so their times are held to what the order of the log says: nobody has an address
 * before its block is granted or after that is over, nor before the node itself, or another one under an earlier grant, has ended
 * what it assigned. What a clock ahead leaves no room for within the grant follows behind it, a millisecond each; the block rests then.
 */
function beginOf(
  others: readonly Assignment[],
  event: VpnEvent<'address.assigned'>,
  grant: BlockGrant | undefined,
): number {
  const isBefore = (other: Assignment) =>
    other.node === event.node
      ? other.connectionId !== event.data.connectionId || !isEndToCome(other)
      : grant !== undefined && other.assignedPosition < grant.grantedPosition;
  const ends = others.flatMap((other) => (other.until !== null && isBefore(other) ? [other.until] : []));
  const earliest = Math.max(Date.parse(event.at), grant?.from ?? Number.NEGATIVE_INFINITY);
  const over = grant?.until ?? null;
  return Math.max(over === null ? earliest : Math.min(earliest, over - 1), ...ends);
}

/** Whether it was over with its grant before it was reported, so that its own end is still to come, and can be earlier. */
export function isEndToCome({ assignedPosition, endedPosition }: Assignment): boolean {
  return endedPosition !== null && endedPosition < assignedPosition;
}

/** The assignment with an end; an end that it has already can only move earlier. */
export function endAssignment(before: Assignment, at: number, endReason: string, position: number): Assignment {
  const until = clampEnd(before.from, at);
  if (before.until !== null && before.until <= until) return before;
  return { ...before, until, endReason, endedPosition: position };
}
