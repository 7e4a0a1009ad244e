import { describeError, errorCode } from '../../shared/errors.ts';
import { CONTROL_NODE, decodeEvents, type EventEnvelope, type VpnEvent } from '../../shared/events/envelope.ts';
import { nodeOfEventSubject } from '../../shared/events/subjects.ts';
import { checkEvent } from '../log/check-event.ts';

/** A message as the stream delivers it. */
export interface StreamMessage {
  readonly streamSeq: number;
  readonly subject: string;
  readonly data: Uint8Array;
}

/** An envelope of known shape, on its way into the log. */
export interface IncomingEvent {
  readonly node: string;
  readonly epoch: string;
  readonly seq: number;
  readonly at: string;
  readonly streamSeq: number;
  readonly subject: string | null;
  readonly envelope: EventEnvelope;
  /** The event of the envelope, or what is wrong with it. */
  readonly checked: VpnEvent | Error;
}

/** What goes to `dead_letter`; the identity is null where nobody can be believed about it. */
export interface DeadLetter {
  readonly event: Pick<EventEnvelope, 'node' | 'epoch' | 'seq' | 'type'> | null;
  readonly subject: string | null;
  readonly streamSeq: number;
  readonly payload: Uint8Array;
  readonly errorCode: string;
  readonly error: string;
}

export interface ReadMessage {
  readonly streamSeq: number;
  readonly events: readonly IncomingEvent[];
  readonly deadLetters: readonly DeadLetter[];
}

/** The events of a message: those of its subject's node. Never throws: what cannot be read is a dead letter. */
export function readMessage(message: StreamMessage): ReadMessage {
  const { streamSeq, subject, data } = message;
  const deadLetter = (payload: Uint8Array, code: string, error: string): DeadLetter => ({
    event: null,
    subject,
    streamSeq,
    payload,
    errorCode: code,
    error,
  });
  const node = nodeOfEventSubject(subject);
  if (node === undefined) {
    return {
      streamSeq,
      events: [],
      deadLetters: [deadLetter(data, 'FOREIGN_SUBJECT', `${subject} belongs to no node`)],
    };
  }
  // Control-plane events were applied when they were decided.
  if (node === CONTROL_NODE) return { streamSeq, events: [], deadLetters: [] };
  let envelopes: EventEnvelope[];
  try {
    envelopes = decodeEvents(data);
  } catch (error) {
    const code = errorCode(error) ?? 'INVALID_EVENT';
    return { streamSeq, events: [], deadLetters: [deadLetter(data, code, describeError(error))] };
  }
  const events: IncomingEvent[] = [];
  const deadLetters: DeadLetter[] = [];
  for (const envelope of envelopes) {
    if (envelope.node === node) {
      events.push(incomingEvent(envelope, streamSeq, subject));
    } else {
      const payload = Buffer.from(JSON.stringify(envelope));
      const error = `an event of node ${envelope.node} came by ${subject}`;
      deadLetters.push(deadLetter(payload, 'FOREIGN_NODE', error));
    }
  }
  return { streamSeq, events, deadLetters };
}

/** An envelope that came by the stream, or waited for an earlier one. Never throws. */
export function incomingEvent(envelope: EventEnvelope, streamSeq: number, subject: string | null): IncomingEvent {
  const { node, epoch, seq, at } = envelope;
  let checked: VpnEvent | Error;
  try {
    checked = checkEvent(envelope);
  } catch (error) {
    checked = error instanceof Error ? error : new Error(String(error));
  }
  return { node, epoch, seq, at, streamSeq, subject, envelope, checked };
}
