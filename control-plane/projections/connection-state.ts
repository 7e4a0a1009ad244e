import { CodedError } from '../../shared/errors.ts';
import type { EventData } from '../../shared/events/envelope.ts';
import type { CloseReason } from '../../shared/events/node-events.ts';
import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import { addTo, addTraffic, isExact, NO_TRAFFIC, totalOf } from './traffic-totals.ts';

/** Times are milliseconds since 1970. */
export type ConnectionStatus =
  | { readonly state: 'open' }
  /** Its node is silent: provisional, until the node is heard, says how it ended, or starts anew. */
  | { readonly state: 'presumed'; readonly reason: CloseReason }
  | {
      readonly state: 'closed';
      readonly reason: CloseReason;
      readonly detail: string;
      readonly closedAt: number;
      readonly durationMs: number | null;
    };

export interface Connection {
  readonly connectionId: string;
  readonly clientId: string;
  readonly node: string;
  readonly incarnation: string;
  readonly status: ConnectionStatus;
  readonly established: { readonly at: number; readonly details: EstablishedDetails } | null;
  readonly presumedAt: number | null;
  /** Sum of the traffic windows. The only part that changes in place, by `countSample`. */
  sampled: TrafficTotals;
  /** What the report of the end totals, once there is one. */
  readonly closeTotals: TrafficTotals | null;
}
export type EstablishedDetails = Pick<
  EventData<'connection.established'>,
  'remoteAddress' | 'remotePort' | 'transport' | 'tunnelMtu'
>;

export type ConnectionChange =
  | { readonly type: 'established'; readonly at: number; readonly details: EstablishedDetails }
  | { readonly type: 'sampled'; readonly traffic: TrafficTotals }
  /** Nothing but a sign that it exists. */
  | { readonly type: 'mentioned' }
  | { readonly type: 'presumed'; readonly at: number; readonly reason: CloseReason }
  /** The node process that was presumed dead has written something at `at`. */
  | { readonly type: 'heard'; readonly at: number }
  /** No report of its end will come, or need not be waited for. */
  | { readonly type: 'abandoned'; readonly at: number; readonly reason: CloseReason; readonly detail: string }
  | {
      readonly type: 'closed';
      readonly at: number;
      readonly reason: CloseReason;
      readonly detail: string;
      readonly durationMs: number;
      readonly totals: TrafficTotals;
    };

/** What a change did, and what follows from it for totals and ledger. */
export interface ConnectionOutcome {
  readonly connection: Connection;
  /** Traffic that is new to the totals. */
  readonly counted: TrafficTotals;
  /** It was established just now: happens once at most. */
  readonly established: boolean;
  /** It has come to its end just now: happens once at most. */
  readonly ended: boolean;
  /** It came to its end without a report of it, so its addresses were not released either. */
  readonly abandoned: boolean;
}

export class ForeignConnectionError extends CodedError {
  constructor(connection: Connection, node: string, clientId: string) {
    super(
      'FOREIGN_CONNECTION',
      `connection ${connection.connectionId} is ${connection.clientId}'s on ${connection.node}, not ${clientId}'s on ${node}`,
    );
  }
}

/** The same for all that are open, of which there are many. */
const OPEN: ConnectionStatus = { state: 'open' };

/** A connection of which nothing is known yet but that it exists. */
export function newConnection(
  identity: Pick<Connection, 'connectionId' | 'clientId' | 'node' | 'incarnation'>,
): Connection {
  const { connectionId, clientId, node, incarnation } = identity;
  return {
    connectionId,
    clientId,
    node,
    incarnation,
    status: OPEN,
    established: null,
    presumedAt: null,
    sampled: NO_TRAFFIC,
    closeTotals: null,
  };
}

/** What a connection has moved: the windows' sum, or the report of its end where that counts more. */
export function trafficOf({ sampled, closeTotals }: Pick<Connection, 'sampled' | 'closeTotals'>): TrafficTotals {
  if (closeTotals === null) return sampled;
  return {
    bytesIn: Math.max(sampled.bytesIn, closeTotals.bytesIn),
    bytesOut: Math.max(sampled.bytesOut, closeTotals.bytesOut),
    packetsIn: Math.max(sampled.packetsIn, closeTotals.packetsIn),
    packetsOut: Math.max(sampled.packetsOut, closeTotals.packetsOut),
  };
}

/** The connection after one more change. Pure: times come with the change. */
export function evolveConnection(before: Connection, change: ConnectionChange): ConnectionOutcome {
  switch (change.type) {
    case 'established': {
      if (before.established !== null) return unchanged(before);
      const established = { at: change.at, details: change.details };
      return {
        connection: { ...before, established },
        counted: NO_TRAFFIC,
        established: true,
        ended: false,
        abandoned: false,
      };
    }
    case 'sampled': {
      // After the report of the end, a late window brings only what that report did not count already.
      const sampled = addTraffic(before.sampled, change.traffic);
      const connection = { ...before, sampled };
      return { connection, counted: growth(before, connection), established: false, ended: false, abandoned: false };
    }
    case 'mentioned':
      return unchanged(before);
    case 'presumed': {
      if (before.status.state !== 'open') return unchanged(before);
      return unchanged({ ...before, presumedAt: change.at, status: { state: 'presumed', reason: change.reason } });
    }
    case 'heard': {
      // What was written before the silence can arrive after it, and says nothing of the time since.
      const isLater = before.presumedAt !== null && change.at > before.presumedAt;
      return before.status.state === 'presumed' && isLater ? unchanged({ ...before, status: OPEN }) : unchanged(before);
    }
    case 'abandoned': {
      if (before.status.state === 'closed') return unchanged(before);
      const closedAt = Math.max(change.at, before.established?.at ?? change.at);
      const durationMs = before.established === null ? null : closedAt - before.established.at;
      const { reason, detail } = change;
      return { ...end(before, { state: 'closed', reason, detail, closedAt, durationMs }), abandoned: true };
    }
    case 'closed': {
      if (before.closeTotals !== null) return unchanged(before);
      const { reason, detail, durationMs, at: closedAt, totals: closeTotals } = change;
      const status = { state: 'closed', reason, detail, closedAt, durationMs } as const;
      const step = end({ ...before, closeTotals }, status);
      return { ...step, counted: growth(before, step.connection), ended: before.status.state !== 'closed' };
    }
    default:
      return change satisfies never;
  }
}

/**
 * What `evolveConnection` does for a window of a connection that has no report of its end, in place: they are most of the log, and
 * objects that each of them left behind would cost more than all else that is done for it. Undefined, and nothing done, where it cannot.
 */
export function countSample(connection: Connection, traffic: TrafficTotals): ConnectionOutcome | undefined {
  const { sampled, closeTotals } = connection;
  if (closeTotals !== null) return undefined;
  const total = totalOf(sampled, traffic);
  if (!isExact(total)) return undefined;
  if (sampled === NO_TRAFFIC) connection.sampled = total;
  else addTo(sampled, traffic);
  return { connection, counted: traffic, established: false, ended: false, abandoned: false };
}

function unchanged(connection: Connection): ConnectionOutcome {
  return { connection, counted: NO_TRAFFIC, established: false, ended: false, abandoned: false };
}

function end(before: Connection, status: Extract<ConnectionStatus, { state: 'closed' }>): ConnectionOutcome {
  const connection = { ...before, status };
  return { connection, counted: NO_TRAFFIC, established: false, ended: true, abandoned: false };
}

function growth(before: Connection, after: Connection): TrafficTotals {
  const now = trafficOf(after);
  const then = trafficOf(before);
  return {
    bytesIn: now.bytesIn - then.bytesIn,
    bytesOut: now.bytesOut - then.bytesOut,
    packetsIn: now.packetsIn - then.packetsIn,
    packetsOut: now.packetsOut - then.packetsOut,
  };
}
