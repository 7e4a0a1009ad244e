import Type, { type Static } from 'typebox';
import { AddressText, ClientId, Count, NodeId, PrefixText, record, ShortText } from '../events/event-schema.ts';
import { message } from './messages.ts';

/** Ours: the most addresses of one request. */
const MAX_GRANTS = 4_096;

/**
 * A static address as it was granted to a node. `grant` grows with every grant of the address, also to the same node: what is said of
 * an earlier one, e.g. by a message that was late, changes nothing.
 */
export const StaticGrant = record({ address: AddressText, grant: Count });
export type StaticGrant = Static<typeof StaticGrant>;

/** Requests about static addresses, each node's on its own subject, answered by the leader after its commit. */
export const staticRequestSubject = (nodeId: string): string => `vpn.rpc.static.${nodeId}`;
export const STATIC_REQUEST_SUBJECTS = staticRequestSubject('*');
export const StaticRequest = Type.Union([
  /** The client that the address belongs to is at this node now. Asked again, it is a new grant. */
  record({ op: Type.Literal('acquire'), node: NodeId, clientId: ClientId, address: AddressText }),
  record({ op: Type.Literal('renew'), node: NodeId, grants: Type.Array(StaticGrant, { maxItems: MAX_GRANTS }) }),
  /** Nobody has the address at this node any more, and that is on its disk. Also the answer to a release. */
  record({ op: Type.Literal('return'), node: NodeId, grants: Type.Array(StaticGrant, { maxItems: MAX_GRANTS }) }),
]);
export type StaticRequest = Static<typeof StaticRequest>;
export const staticRequestMessage = message('static address request', StaticRequest);

/** `leaseSeconds` counts from the moment at which the node sent the request, on the node's own monotonic clock. */
export const StaticLease = record({ address: AddressText, pool: PrefixText, grant: Count, leaseSeconds: Count });
export type StaticLease = Static<typeof StaticLease>;
export const StaticReply = Type.Union([
  record({ ok: Type.Literal(true), leases: Type.Array(StaticLease), lost: Type.Array(AddressText) }),
  record({
    ok: Type.Literal(false),
    /**
     * `held`: another node has it and has not given it up yet; `resting`: another client had it less than a minute ago;
     * `not_assigned`: it is not this client's. All but `invalid` may be otherwise a moment later.
     */
    code: Type.Union([
      Type.Literal('held'),
      Type.Literal('resting'),
      Type.Literal('not_assigned'),
      Type.Literal('not_leader'),
      Type.Literal('invalid'),
      Type.Literal('unavailable'),
    ]),
    message: ShortText,
  }),
]);
export type StaticReply = Static<typeof StaticReply>;
export const staticReplyMessage = message('static address reply', StaticReply);

/** The leader asks a node to give an address up, because its client is elsewhere now. The node answers with a `return`. */
export const staticReleaseSubject = (nodeId: string): string => `vpn.release.${nodeId}`;
export const staticReleaseMessage = message('static address release', StaticGrant);
