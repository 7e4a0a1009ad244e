import Type, { type Static } from 'typebox';
import {
  AddressText,
  ClientId,
  ConnectionId,
  Count,
  NodeId,
  nullable,
  PoolName,
  PositiveInteger,
  PrefixText,
  RandomId,
  record,
  ShortText,
  Timestamp,
} from './event-schema.ts';

/** Networks of one pool (ours). */
export const MAX_POOL_NETWORKS = 1_000;

/** What a pool is: its networks, and the lengths of the blocks that those of each family are split into. */
const poolLayout = {
  name: PoolName,
  prefixes: Type.Array(PrefixText, { minItems: 1, maxItems: MAX_POOL_NETWORKS }),
  blockPrefixV4: Type.Integer({ minimum: 0, maximum: 32 }),
  blockPrefixV6: Type.Integer({ minimum: 0, maximum: 128 }),
};
const lease = { block: PrefixText, pool: PrefixText, node: NodeId };
/** Who did it: the name of the admin token (`admin` for `ADMIN_TOKEN`), `cli:` and a user, `control-plane` for its own decisions. */
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
  'pool.added': record({ ...poolLayout, actor: Actor }),
  'pool.changed': record({ ...poolLayout, actor: Actor }),
  /** Nobody gets addresses of it any more; `closeTunnels`: those who have some lose them. */
  'pool.retiring': record({ name: PoolName, closeTunnels: Type.Boolean(), actor: Actor }),
  /** No node holds a part of it any more. */
  'pool.retired': record({ name: PoolName, actor: Actor }),
  /** An event that had been set aside (`id`) was applied, at this position of the log. */
  'dead_letter.applied': record({
    id: PositiveInteger,
    node: NodeId,
    epoch: RandomId,
    seq: PositiveInteger,
    type: ShortText,
    position: PositiveInteger,
    actor: Actor,
  }),
  /**
   * The tables that follow from the log were replaced by those that were projected anew, up to `position`. The run that did so began
   * behind `from`: at 0, at the snapshot, or (`resumed`) where one before it broke off.
   */
  'projections.rebuilt': record({ from: Count, position: Count, resumed: Type.Boolean(), actor: Actor }),
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
