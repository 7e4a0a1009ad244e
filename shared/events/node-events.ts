import Type, { type Static } from 'typebox';
import {
  AddressText,
  ClientId,
  ConnectionId,
  Count,
  Milliseconds,
  nullable,
  PositiveInteger,
  PrefixText,
  record,
  ShortText,
  Timestamp,
} from './event-schema.ts';
import { TrafficColumns, TrafficTotals } from './traffic-columns.ts';

/** Why a connection ended. */
export const CloseReason = Type.Union([
  Type.Literal('client'),
  Type.Literal('idle'),
  Type.Literal('revoked'),
  Type.Literal('drained'),
  Type.Literal('node_lost'),
  Type.Literal('error'),
]);
export type CloseReason = Static<typeof CloseReason>;

export const Transport = Type.Union([Type.Literal('http3'), Type.Literal('http2'), Type.Literal('webtransport')]);
export type Transport = Static<typeof Transport>;

/** The data of every event type that a node publishes, at its current version. */
export const nodeEventSchemas = {
  'node.started': record({ softwareVersion: ShortText, listen: ShortText, tunnelMtu: Count }),
  'node.draining': record({ reason: ShortText }),
  'node.stopped': record({ reason: ShortText }),
  'connection.established': record({
    connectionId: ConnectionId,
    clientId: ClientId,
    remoteAddress: AddressText,
    remotePort: Count,
    transport: Transport,
    tunnelMtu: Count,
  }),
  'connection.failed': record({
    remoteAddress: AddressText,
    /** Known only where the token was. */
    clientId: nullable(ClientId),
    /** The HTTP status that was answered; 0 where the handshake or the request broke before one. */
    status: Count,
    reason: ShortText,
    /** 401 and 403 are `auth`, the rest `connection`. */
    errorType: Type.Union([Type.Literal('auth'), Type.Literal('connection')]),
    /** How many failures this event stands for: floods from one remote address are folded into one. */
    count: PositiveInteger,
  }),
  'connection.closed': record({
    connectionId: ConnectionId,
    clientId: ClientId,
    reason: CloseReason,
    detail: ShortText,
    durationMs: Milliseconds,
    totals: TrafficTotals,
  }),
  'address.assigned': record({
    connectionId: ConnectionId,
    clientId: ClientId,
    address: AddressText,
    block: PrefixText,
    pool: PrefixText,
  }),
  'address.released': record({
    connectionId: ConnectionId,
    clientId: ClientId,
    address: AddressText,
    block: PrefixText,
    pool: PrefixText,
    reason: CloseReason,
  }),
  'traffic.sampled': record({
    windowStart: Timestamp,
    windowEnd: Timestamp,
    /** Errors of the window that are no `connection.failed`. */
    errors: record({ packet: Count, other: Count }),
    /** Dropped packets of the window by reason, over all connections. */
    drops: Type.Record(Type.String({ pattern: '^[a-z0-9_]{1,40}$' }), Count),
    samples: TrafficColumns,
  }),
} as const;

export type NodeEventType = keyof typeof nodeEventSchemas;
export type NodeEventData<T extends NodeEventType> = Static<(typeof nodeEventSchemas)[T]>;
