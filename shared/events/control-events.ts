import Type, { type Static } from 'typebox';
import {
  AddressText,
  ClientId,
  ConnectionId,
  NodeId,
  nullable,
  PoolName,
  PrefixText,
  RandomId,
  record,
  ShortText,
  Timestamp,
} from './event-schema.ts';

const lease = { block: PrefixText, pool: PrefixText, node: NodeId };
/** Who did it: the name of the admin token (`admin` for `ADMIN_TOKEN`), `control-plane` for its own decisions. */
const Actor = ShortText;

/** The data of every event type that the control plane publishes, at its current version. */
export const controlEventSchemas = {
  'block.granted': record({ ...lease, leaseEnd: Timestamp }),
  'block.renewed': record({ ...lease, leaseEnd: Timestamp }),
  'block.returned': record({ ...lease }),
  'block.reclaimed': record({ ...lease, leaseEnd: Timestamp }),
  'client.enrolled': record({ clientId: ClientId, name: ShortText, pool: PoolName, actor: Actor }),
  'client.updated': record({ clientId: ClientId, name: ShortText, pool: PoolName, actor: Actor }),
  /** The addresses that it has wherever it connects from now on; none: those that are free. */
  'client.addresses_set': record({
    clientId: ClientId,
    addresses: Type.Array(AddressText, { maxItems: 2 }),
    actor: Actor,
  }),
  'client.revoked': record({ clientId: ClientId, actor: Actor }),
  /** Nothing was heard of this incarnation of the node since `lastSeenAt` (null: never in this term). */
  'node.lost': record({ node: NodeId, incarnation: RandomId, lastSeenAt: nullable(Timestamp) }),
  'connection.presumed_closed': record({
    connectionId: ConnectionId,
    clientId: ClientId,
    node: NodeId,
    reason: Type.Literal('node_lost'),
  }),
} as const;

export type ControlEventType = keyof typeof controlEventSchemas;
export type ControlEventData<T extends ControlEventType> = Static<(typeof controlEventSchemas)[T]>;
