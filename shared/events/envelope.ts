import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { CodedError } from '../errors.ts';
import { schemaProblem } from '../schema-problem.ts';
import { type ControlEventData, type ControlEventType, controlEventSchemas } from './control-events.ts';
import { NodeId, PositiveInteger, RandomId, Timestamp } from './event-schema.ts';
import { currentVersion, inCurrentVersion } from './event-versions.ts';
import { type NodeEventData, type NodeEventType, nodeEventSchemas } from './node-events.ts';

/** The `node` of events that the control plane itself appends. */
export const CONTROL_NODE = 'control';

export type EventType = NodeEventType | ControlEventType;
export type EventData<T extends EventType> = T extends NodeEventType
  ? NodeEventData<T>
  : T extends ControlEventType
    ? ControlEventData<T>
    : never;

/**
 * One event of the log. (node, epoch, seq) is its identity: `epoch` is made when a spool is created, `seq` is contiguous
 * from 1 within it. `incarnation` is new with every start of the process. `at` is the sender's wall clock.
 */
export type VpnEvent<T extends EventType = EventType> = {
  [K in T]: {
    readonly node: string;
    readonly epoch: string;
    readonly seq: number;
    readonly incarnation: string;
    readonly type: K;
    readonly version: number;
    readonly at: string;
    readonly data: EventData<K>;
  };
}[T];

/** What a sender decides before the spool gives it a place in the log. */
export type NewEvent<T extends EventType = EventType> = {
  [K in T]: { readonly type: K; readonly at: string; readonly data: EventData<K> };
}[T];

/** The most events that one message may carry. */
export const MAX_EVENTS_PER_MESSAGE = 100;
/** Ours: what versions of event types never reach. */
export const MAX_EVENT_VERSION = 1_000;

const Envelope = Type.Object({
  node: NodeId,
  epoch: RandomId,
  seq: PositiveInteger,
  incarnation: RandomId,
  type: Type.String({ maxLength: 64 }),
  version: Type.Integer({ minimum: 1, maximum: MAX_EVENT_VERSION }),
  at: Timestamp,
  data: Type.Object({}),
});
/** An envelope whose shape is right; whether its data fits its type is another question (`validateEvent`). */
export type EventEnvelope = Static<typeof Envelope>;

const envelopes = Compile(Type.Array(Envelope, { minItems: 1, maxItems: MAX_EVENTS_PER_MESSAGE }));
const dataValidators = new Map(
  Object.entries({ ...nodeEventSchemas, ...controlEventSchemas }).map(([type, schema]) => [type, Compile(schema)]),
);

export class InvalidEventError extends CodedError {
  constructor(what: string, why: string, options?: { cause?: unknown }) {
    super('INVALID_EVENT', `${what}: ${why}`, options);
  }
}

/** The bytes of one message: a JSON array of envelopes. */
export function encodeEvents(events: readonly VpnEvent[]): Uint8Array {
  return Buffer.from(JSON.stringify(events));
}

/** Bytes from NATS into envelopes of known shape. Throws InvalidEventError when the message as a whole is unreadable. */
export function decodeEvents(bytes: Uint8Array): EventEnvelope[] {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch (cause) {
    throw new InvalidEventError('message', 'not JSON', { cause });
  }
  if (!envelopes.Check(value)) throw new InvalidEventError('message', schemaProblem(envelopes, value));
  return value;
}

/**
 * The event of an envelope, as the current version of its type has it: what an earlier build wrote is upcast. Throws
 * InvalidEventError, which names the field that is wrong.
 */
export function validateEvent(envelope: EventEnvelope): VpnEvent {
  const type = envelope.type as EventType;
  const validator = dataValidators.get(type);
  const what = `event ${type} ${envelope.node}/${envelope.epoch}/${envelope.seq}`;
  if (!validator) throw new InvalidEventError(what, 'unknown type');
  const version = currentVersion(type);
  if (envelope.version > version) {
    throw new InvalidEventError(what, `unknown version ${envelope.version}, known are those up to ${version}`);
  }
  const event = inCurrentVersion(envelope);
  if (!validator.Check(event.data)) throw new InvalidEventError(what, schemaProblem(validator, event.data));
  return event as unknown as VpnEvent;
}
