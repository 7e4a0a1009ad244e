import Type, { type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { CodedError } from '../errors.ts';
import {
  AddressText,
  ClientId,
  Count,
  NodeId,
  PoolName,
  PrefixText,
  RandomId,
  record,
  ShortText,
  Timestamp,
} from '../events/event-schema.ts';
import { schemaProblem } from '../schema-problem.ts';

/** A message of core NATS or a KV entry: JSON of one schema, validated before anything reads it. */
export interface Message<T> {
  encode(value: T): Uint8Array;
  /** Throws InvalidMessageError. */
  decode(bytes: Uint8Array): T;
}

export class InvalidMessageError extends CodedError {
  constructor(name: string, why: string, options?: { cause?: unknown }) {
    super('INVALID_MESSAGE', `${name}: ${why}`, options);
  }
}

/** A message of that name, which its errors tell. */
export function message<S extends TSchema>(name: string, schema: S): Message<Static<S>> {
  const validator = Compile(schema);
  return {
    encode: (value) => Buffer.from(JSON.stringify(value)),
    decode: (bytes) => {
      let value: unknown;
      try {
        value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
      } catch (cause) {
        throw new InvalidMessageError(name, 'not JSON', { cause });
      }
      if (validator.Check(value)) return value as Static<S>;
      throw new InvalidMessageError(name, schemaProblem(validator, value));
    },
  };
}

/**
 * Sent by each node every PRESENCE_INTERVAL_MS by core NATS. `lastSeq` is the last event that its spool has on disk: what is not
 * committed of them when the disk is lost is known to be lost. Nodes of old leave it out.
 */
export const Presence = record({ epoch: RandomId, incarnation: RandomId, lastSeq: Type.Optional(Count) });
export type Presence = Static<typeof Presence>;
export const presenceMessage = message('presence', Presence);
export const PRESENCE_INTERVAL_MS = 2_000;
/** Silence after which a leader that is itself connected declares a node lost. */
export const PRESENCE_TIMEOUT_MS = 10_000;
export const PRESENCE_SUBJECTS = 'vpn.presence.*';
export const presenceSubject = (nodeId: string): string => `vpn.presence.${nodeId}`;
export const nodeOfPresenceSubject = (subject: string): string => subject.slice('vpn.presence.'.length);

/**
 * What is committed to Postgres of one spool. The node trims its spool up to `appliedSeq`; what it published and what has
 * no PubAck beyond `streamSeq` of the stream made at `streamCreated` is still under way. `reportedSeq` is the last event of it that
 * was ever heard of, 0 for none; only answers have it, and those of control planes of old have not.
 */
export const Watermark = record({
  epoch: RandomId,
  appliedSeq: Count,
  streamSeq: Count,
  streamCreated: ShortText,
  reportedSeq: Type.Optional(Count),
});
export type Watermark = Static<typeof Watermark>;
export const watermarkMessage = message('watermark', Watermark);
/**
 * Ours: the most events that a node has published and does not know to be committed, so no more of a spool can wait for an
 * earlier one. It bounds what a reconnect repeats, and what the control plane keeps of a node that does not hold to it.
 */
export const MAX_UNCOMMITTED_EVENTS = 50_000;
/** The leader publishes here after each commit. */
export const watermarkSubject = (nodeId: string): string => `vpn.watermark.${nodeId}`;
/** A node asks on its own subject; the reply is a Watermark (appliedSeq 0 for an epoch that was never seen). */
export const watermarkRequestSubject = (nodeId: string): string => `vpn.rpc.watermark.${nodeId}`;
export const WATERMARK_REQUEST_SUBJECTS = watermarkRequestSubject('*');
/** `reported`: the node wants to know `reportedSeq`. Nodes of old do not, and refuse an answer that has it. */
export const WatermarkRequest = record({ node: NodeId, epoch: RandomId, reported: Type.Optional(Type.Literal(true)) });
export type WatermarkRequest = Static<typeof WatermarkRequest>;
export const watermarkRequestMessage = message('watermark request', WatermarkRequest);

/** Requests about address blocks, each node's on its own subject, answered by the leader after its commit. */
export const blockRequestSubject = (nodeId: string): string => `vpn.rpc.block.${nodeId}`;
export const BLOCK_REQUEST_SUBJECTS = blockRequestSubject('*');
/** Ours: what a node waits for an answer before it asks again. */
export const BLOCK_REQUEST_TIMEOUT_MS = 5_000;
export const BlockRequest = Type.Union([
  /** One more block of a family of a pool, the default one where it names none. `requestId` makes a repeated request answer with the same grant. */
  record({
    op: Type.Literal('acquire'),
    node: NodeId,
    family: Type.Union([Type.Literal(4), Type.Literal(6)]),
    requestId: RandomId,
    pool: Type.Optional(PoolName),
    /** The node knows which addresses of the blocks that it gave back still rest, so it can have them at once. */
    remembers: Type.Optional(Type.Literal(true)),
  }),
  record({ op: Type.Literal('renew'), node: NodeId, blocks: Type.Array(PrefixText, { maxItems: 4096 }) }),
  record({ op: Type.Literal('return'), node: NodeId, blocks: Type.Array(PrefixText, { maxItems: 4096 }) }),
]);
export type BlockRequest = Static<typeof BlockRequest>;
export const blockRequestMessage = message('block request', BlockRequest);

/** `leaseSeconds` counts from the moment at which the node sent the request, on the node's own monotonic clock. */
export const BlockLease = record({ block: PrefixText, pool: PrefixText, leaseSeconds: Count });
export type BlockLease = Static<typeof BlockLease>;
export const BlockReply = Type.Union([
  record({ ok: Type.Literal(true), leases: Type.Array(BlockLease), lost: Type.Array(PrefixText) }),
  record({
    ok: Type.Literal(false),
    /** `exhausted`: nothing is free; `no_pool`: the pool is not there, retires, or has no such family; the rest is retried. */
    code: Type.Union([
      Type.Literal('exhausted'),
      Type.Literal('no_pool'),
      Type.Literal('not_leader'),
      Type.Literal('invalid'),
      Type.Literal('unavailable'),
    ]),
    message: ShortText,
  }),
]);
export type BlockReply = Static<typeof BlockReply>;
export const blockReplyMessage = message('block reply', BlockReply);

/**
 * The leader tells a node which of its blocks are to be given up, again and again until they are: of those in `draining` it hands
 * out no more addresses, and of those in `closing` it ends the tunnels too.
 */
export const BlockNotice = record({
  draining: Type.Array(PrefixText, { maxItems: 4096 }),
  closing: Type.Array(PrefixText, { maxItems: 4096 }),
});
export type BlockNotice = Static<typeof BlockNotice>;
export const blockNoticeMessage = message('block notice', BlockNotice);
export const blockNoticeSubject = (nodeId: string): string => `vpn.blocks.${nodeId}`;

/** One client's entry in the credentials bucket, under the client's id. A node never goes back to an older `version`. */
export const Credential = record({
  clientId: ClientId,
  version: Count,
  state: Type.Union([Type.Literal('active'), Type.Literal('revoked')]),
  /** SHA-256 of the bearer token, hexadecimal. The token itself is known to the client only. */
  tokenSha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  updatedAt: Timestamp,
  /** The pool of its addresses; absent in entries of earlier builds: the default one. */
  pool: Type.Optional(PoolName),
  /** Addresses that are its own wherever it connects. */
  addresses: Type.Optional(Type.Array(AddressText, { maxItems: 2 })),
});
export type Credential = Static<typeof Credential>;
export const credentialMessage = message('credential', Credential);
