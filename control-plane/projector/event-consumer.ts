import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import {
  AckPolicy,
  type Consumer,
  type ConsumerMessages,
  DeliverPolicy,
  type JetStreamManager,
  type JsMsg,
  type NatsConnection,
  nanos,
  ReplayPolicy,
} from 'nats';
import { CodedError, errorCode } from '../../shared/errors.ts';
import { EVENT_STREAM } from '../../shared/nats/streams.ts';
import { type ReadMessage, readMessage } from './read-message.ts';

/** Ours: messages in flight from the stream, and the most that one batch has. */
const MAX_BATCH_MESSAGES = 500;
/**
 * Ours: a batch ends with the message that reaches it, and so many bytes are read ahead: some thousand events, with which a transaction
 * costs next to nothing and ends soon.
 */
const MAX_BATCH_BYTES = 2 ** 20;
/** Ours: bytes that are decoded in one go, about a millisecond, before others get their turn, e.g. what Postgres has answered. */
const MAX_BYTES_IN_ONE_GO = 64 * 1024;
/** Ours: far more than a batch, so that a slow commit never stops the flow. */
const MAX_ACK_PENDING = 10 * MAX_BATCH_MESSAGES;
/** Ours: longer than any commit may take. What is redelivered all the same is recognised. */
const ACK_WAIT_MS = 120_000;
/** Ours: the server forgets the consumer of a term that is over. */
const INACTIVE_THRESHOLD_MS = 5 * 60_000;
/** Ours: far longer than a message takes, and rare enough to cost nothing. */
const DEFAULT_WATCHDOG_MS = 5_000;
const CONSUMER_PREFIX = 'projector-';
/** What the client library reports only as a status, and goes on waiting. */
const FATAL_STATUSES = new Set(['consumer_deleted', 'consumer_not_found', 'stream_not_found']);

/** A message of the stream, decoded and checked. */
export interface ReceivedMessage {
  readonly message: JsMsg;
  readonly read: ReadMessage;
}

export interface EventBatch {
  readonly messages: readonly ReceivedMessage[];
  /** Decodes what has come in since, in small pieces: for when there is nothing to do but to wait for Postgres. */
  readonly readAhead: () => Promise<void>;
}

interface Arrival {
  readonly message: JsMsg;
  /** Undefined until there was time for it. */
  read?: ReadMessage;
}

export interface ReadOptions {
  /** How long to wait for a message before an empty batch says that there was none; undefined: for ever. */
  readonly idleMs?: () => number | undefined;
  /** This long without a message, the stream is asked whether there are any. */
  readonly watchdogMs?: number | undefined;
}

/** The consumer is of no use any more: build another one from the checkpoint. */
export class ConsumerBrokenError extends CodedError {
  constructor(why: string, options?: { cause?: unknown }) {
    super('CONSUMER_BROKEN', why, options);
  }
}

/**
 * Reads the event stream from sequence `first` on by a pull consumer of this term, in batches of what is there, without
 * holes. An empty batch says that nothing came for `idleMs()`, where that is a time. Asking for the next batch says that the
 * one before is committed. Throws ConsumerBrokenError when a sequence is missing, the consumer is gone, or nothing comes
 * though there is something; ends when the signal aborts.
 */
export async function* readEvents(
  nats: NatsConnection,
  manager: JetStreamManager,
  ownerEpoch: number,
  first: number,
  signal: AbortSignal,
  { idleMs = () => undefined, watchdogMs = DEFAULT_WATCHDOG_MS }: ReadOptions = {},
): AsyncGenerator<EventBatch, void, undefined> {
  const consumer = await createConsumer(nats, manager, ownerEpoch, first);
  const messages = await consumer.consume({ max_messages: MAX_BATCH_MESSAGES });
  const inbox = new Inbox(messages, first);
  const readAhead = () => inbox.readAhead();
  const wake = () => inbox.wake();
  signal.addEventListener('abort', wake);
  try {
    while (!signal.aborted) {
      const idle = idleMs();
      const batch = await inbox.take(idle ?? watchdogMs, signal);
      if (batch.length > 0) {
        yield { messages: await readAll(batch), readAhead };
        // With ack-all this is the whole batch; it only makes room for more, the position is the checkpoint's matter.
        batch.at(-1)?.message.ack();
      } else if (idle !== undefined && !signal.aborted && inbox.isEmpty()) {
        yield { messages: [], readAhead };
      } else if (!signal.aborted && (await lastSequence(manager)) >= inbox.expected) {
        // What has come in while the stream was asked is no reason to complain.
        if (inbox.isEmpty()) throw new ConsumerBrokenError(`message ${inbox.expected} is there but does not come`);
      }
    }
  } finally {
    signal.removeEventListener('abort', wake);
    // Neither break nor close(): both can wait for ever for an iterator that nobody drives any more.
    messages.stop();
    inbox.close();
  }
}

/** Deletes the consumers of earlier terms; never those of later ones, which a leader of the past must not disturb. */
export async function deleteEarlierConsumers(manager: JetStreamManager, ownerEpoch: number): Promise<void> {
  for await (const { name } of manager.consumers.list(EVENT_STREAM)) {
    if (!name.startsWith(CONSUMER_PREFIX)) continue;
    if (Number(name.slice(CONSUMER_PREFIX.length)) < ownerEpoch) await deleteConsumer(manager, name);
  }
}

const consumerName = (ownerEpoch: number) => `${CONSUMER_PREFIX}${ownerEpoch}`;

async function deleteConsumer(manager: JetStreamManager, name: string): Promise<void> {
  try {
    await manager.consumers.delete(EVENT_STREAM, name);
  } catch (error) {
    if (errorCode(error) !== '404') throw error;
  }
}

async function createConsumer(
  nats: NatsConnection,
  manager: JetStreamManager,
  ownerEpoch: number,
  first: number,
): Promise<Consumer> {
  const name = consumerName(ownerEpoch);
  await deleteConsumer(manager, name);
  await manager.consumers.add(EVENT_STREAM, {
    name,
    ack_policy: AckPolicy.All,
    ack_wait: nanos(ACK_WAIT_MS),
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: first,
    replay_policy: ReplayPolicy.Instant,
    max_ack_pending: MAX_ACK_PENDING,
    inactive_threshold: nanos(INACTIVE_THRESHOLD_MS),
  });
  return await nats.jetstream().consumers.get(EVENT_STREAM, name);
}

/** 0 while NATS does not answer: then silence is no sign of a broken consumer. */
async function lastSequence(manager: JetStreamManager): Promise<number> {
  try {
    return (await manager.streams.info(EVENT_STREAM)).state.last_seq;
  } catch (error) {
    if (errorCode(error) === '404') throw new ConsumerBrokenError('the stream is gone', { cause: error });
    return 0;
  }
}

/** Decodes what is not decoded yet. */
async function readAll(arrivals: readonly Arrival[]): Promise<ReceivedMessage[]> {
  const received: ReceivedMessage[] = [];
  let bytes = 0;
  for (const arrival of arrivals) {
    const { message } = arrival;
    const { seq: streamSeq, subject, data } = message;
    if (arrival.read === undefined) bytes += data.length;
    arrival.read ??= readMessage({ streamSeq, subject, data });
    received.push({ message, read: arrival.read });
    if (bytes < MAX_BYTES_IN_ONE_GO) continue;
    bytes = 0;
    await turn();
  }
  return received;
}

/** Takes messages from the library's iterator, a bounded number ahead, and checks that none is missing. */
class Inbox {
  /** The sequence that has to come next. */
  expected: number;
  private readonly waiting: Arrival[] = [];
  private waitingBytes = 0;
  private broken: ConsumerBrokenError | undefined;
  private closed = false;
  private arrival = Promise.withResolvers<void>();
  private room = Promise.withResolvers<void>();

  constructor(messages: ConsumerMessages, first: number) {
    this.expected = first;
    void this.pump(messages);
    void this.watch(messages);
  }

  isEmpty(): boolean {
    return this.waiting.length === 0 && this.broken === undefined;
  }

  private isFull(): boolean {
    return this.waiting.length >= MAX_BATCH_MESSAGES || this.waitingBytes >= MAX_BATCH_BYTES;
  }

  wake(): void {
    this.arrival.resolve();
  }

  close(): void {
    this.closed = true;
    this.room.resolve();
    this.wake();
  }

  /** What has arrived; waits for it up to `timeoutMs`. Throws ConsumerBrokenError once all that came before is taken. */
  async take(timeoutMs: number, signal: AbortSignal): Promise<readonly Arrival[]> {
    if (this.isEmpty() && !signal.aborted) {
      this.makeRoom();
      const timer = new AbortController();
      const timeout = delay(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined);
      await Promise.race([this.arrival.promise, timeout]);
      timer.abort();
    }
    this.arrival = Promise.withResolvers();
    if (this.waiting.length === 0 && this.broken) throw this.broken;
    let bytes = 0;
    let count = 0;
    while (count < this.waiting.length && bytes < MAX_BATCH_BYTES) bytes += this.waiting[count++]!.message.data.length;
    const batch = this.waiting.splice(0, count);
    this.waitingBytes -= bytes;
    return batch;
  }

  /** Lets more in, and decodes what is there: both take time that whoever works on a batch should not wait for. */
  async readAhead(): Promise<void> {
    this.makeRoom();
    let before: number;
    do {
      before = this.waiting.length;
      await readAll(this.waiting);
      await turn();
    } while (this.waiting.length > before);
  }

  private makeRoom(): void {
    this.room.resolve();
    this.room = Promise.withResolvers();
  }

  private async pump(messages: ConsumerMessages): Promise<void> {
    try {
      for await (const message of messages) {
        if (this.closed) return;
        // Redelivered: it is taken already.
        if (message.seq < this.expected) continue;
        if (message.seq > this.expected) {
          this.fail(`message ${this.expected} is missing: ${message.seq} came`);
          return;
        }
        this.expected += 1;
        this.waiting.push({ message });
        this.waitingBytes += message.data.length;
        this.wake();
        while (this.isFull() && !this.closed) await this.room.promise;
      }
      this.fail('the consumer ended');
    } catch (error) {
      this.fail('the consumer failed', error);
    }
  }

  private async watch(messages: ConsumerMessages): Promise<void> {
    try {
      for await (const { type } of await messages.status()) {
        if (FATAL_STATUSES.has(type)) this.fail(type.replaceAll('_', ' '));
      }
    } catch (error) {
      this.fail('the status of the consumer failed', error);
    }
  }

  private fail(why: string, cause?: unknown): void {
    if (!this.closed) this.broken ??= new ConsumerBrokenError(why, { cause });
    this.wake();
  }
}
