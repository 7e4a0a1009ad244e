import { setTimeout as delay } from 'node:timers/promises';
import type { JetStreamClient, NatsConnection, Subscription } from 'nats';
import { describeError } from '../../shared/errors.ts';
import { MAX_EVENTS_PER_MESSAGE } from '../../shared/events/envelope.ts';
import { nodeEventSubject } from '../../shared/events/subjects.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  MAX_UNCOMMITTED_EVENTS,
  type Presence,
  type Watermark,
  watermarkMessage,
  watermarkRequestMessage,
  watermarkRequestSubject,
  watermarkSubject,
} from '../../shared/nats/messages.ts';
import { EVENT_STREAM } from '../../shared/nats/streams.ts';
import type { Link } from '../control-link/nats-link.ts';
import { PublishLedger, type SeqRange, sameStream } from './publish-ledger.ts';
import type { Spool, SpooledEvent } from './spool.ts';

/** Ours: how long an event waits for others to share its message, milliseconds: a message costs all on its way more than an event does. */
const FLUSH_MS = 200;
/** Ours: the most messages that wait for their PubAck at once. */
const MAX_IN_FLIGHT = 16;
/** Ours: half of NATS' default limit for one message. */
const MAX_MESSAGE_BYTES = 512 * 1024;
/** Ours: a publish without an answer has failed after this. */
const PUBLISH_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 1_000;
/** Ours: with uncommitted events and no watermark for this long, the node asks: the message may have been lost. */
const ASK_AFTER_MS = 5_000;
/** Ours: between two trims of a spool with room, each of which is a transaction and an fsync. */
const TRIM_INTERVAL_MS = 500;
const MIN_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;

export interface EventPublisherOptions {
  readonly spool: Spool;
  readonly link: Link;
  readonly log: Logger;
  /** The most events published and uncommitted; for tests. */
  readonly maxUncommitted?: number;
}

export interface PublisherStats {
  /** Events with a PubAck, repeats included. */
  readonly acked: number;
  /** Events that were published again. */
  readonly repeated: number;
  /** Publishes that failed or timed out. */
  readonly failures: number;
  /** Events published and not known to be committed. */
  readonly uncommitted: number;
}

/** One stretch of time in which NATS was reachable. */
interface Session {
  readonly connection: NatsConnection;
  readonly js: JetStreamClient;
  readonly watermarks: Subscription;
  /** Creation time of the stream; undefined until it is known that there is one. */
  stream: string | undefined;
  /** The newest message that the stream had then; 0 where it was empty. */
  streamEnd: number;
  ready: boolean;
  inFlight: number;
}

/** Publishes the spool to the event stream and trims it by the control plane's watermarks. */
export class EventPublisher {
  readonly #spool: Spool;
  readonly #link: Link;
  readonly #log: Logger;
  readonly #maxUncommitted: number;
  #ledger: PublishLedger;
  #session: Session | undefined;
  #flushDue = true;
  #flushTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #askTimer: NodeJS.Timeout | undefined;
  #lastWatermarkAt = 0;
  #failuresInARow = 0;
  #trimming: Promise<void> | undefined;
  #trimmedAt = Number.NEGATIVE_INFINITY;
  #trimTimer: NodeJS.Timeout | undefined;
  #renewing = false;
  /** Whether the spool is known to be one: what it had at first is published, and a new epoch begins when that is committed. */
  #isOlderCopy = false;
  #confirming: Promise<void> | undefined;
  #stops: (() => void)[] = [];
  #drained: (() => void) | undefined;
  #acked = 0;
  #repeated = 0;
  #failures = 0;

  constructor(options: EventPublisherOptions) {
    this.#spool = options.spool;
    this.#link = options.link;
    this.#log = options.log;
    this.#maxUncommitted = options.maxUncommitted ?? MAX_UNCOMMITTED_EVENTS;
    this.#ledger = new PublishLedger(options.spool.appliedSeq);
  }

  get stats(): PublisherStats {
    const { uncommitted } = this.#ledger;
    return { acked: this.#acked, repeated: this.#repeated, failures: this.#failures, uncommitted };
  }

  /** What the node says of its spool. Numbers of an older copy of a spool would be taken for those of the spool itself. */
  get presence(): Presence {
    const { epoch, incarnation, lastSeq, isConfirmed } = this.#spool;
    return { epoch, incarnation, ...(isConfirmed && !this.#renewing ? { lastSeq } : {}) };
  }

  start(): void {
    this.#stops = [
      this.#spool.onAppended(() => this.#appended()),
      this.#link.onUp((connection) => {
        this.#begin(connection).catch((err: unknown) => this.#log.error({ err }, 'publishing could not begin'));
      }),
      this.#link.onDown(() => this.#endSession()),
    ];
    this.#askTimer = setInterval(() => {
      if (this.#ledger.uncommitted > 0 && performance.now() - this.#lastWatermarkAt >= ASK_AFTER_MS) void this.#ask();
    }, ASK_AFTER_MS);
  }

  /** Gives what is left up to `deadlineMs` to be published, then ends. What is not stays in the spool. */
  async stop(deadlineMs: number): Promise<void> {
    this.#flushDue = true;
    if (!this.#isDrained() && this.#session !== undefined) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs);
        this.#drained = () => {
          clearTimeout(timer);
          resolve();
        };
        this.#pump();
      });
    }
    for (const stop of this.#stops) stop();
    clearInterval(this.#askTimer);
    clearTimeout(this.#flushTimer);
    this.#endSession();
    await this.#trim();
  }

  async #begin(connection: NatsConnection): Promise<void> {
    this.#endSession();
    const session: Session = {
      connection,
      js: connection.jetstream({ timeout: REQUEST_TIMEOUT_MS }),
      watermarks: connection.subscribe(watermarkSubject(this.#spool.node), {
        callback: (error, message) => {
          if (error === null) this.#onWatermark(message.data, session, { isAnswer: false });
        },
      }),
      stream: undefined,
      streamEnd: 0,
      ready: false,
      inFlight: 0,
    };
    this.#session = session;
    for (let attempt = 0; session === this.#session && session.stream === undefined; attempt++) {
      await this.#lookUpStream(session);
      if (session.stream === undefined) await delay(retryDelay(attempt));
    }
    // Events of an older copy of the spool have numbers that others had.
    for (let attempt = 0; ; attempt++) {
      await this.#ask();
      await this.#confirming;
      if (session !== this.#session) return;
      if (!session.ready && (this.#spool.isConfirmed || this.#isOlderCopy)) this.#publishOn(session);
      if (this.#spool.isConfirmed) return;
      await delay(retryDelay(attempt));
    }
  }

  #publishOn(session: Session): void {
    // What was on its way when the connection broke, and what a restarted server may have lost after its PubAck.
    this.#ledger.reconnected();
    session.ready = true;
    this.#flushDue = true;
    this.#pump();
  }

  #endSession(): void {
    const session = this.#session;
    this.#session = undefined;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    if (session !== undefined && !session.connection.isClosed()) session.watermarks.unsubscribe();
  }

  /** PubAcks name a place in a stream, not which stream of that name: its creation time does. */
  async #lookUpStream(session: Session): Promise<void> {
    try {
      const manager = await session.connection.jetstreamManager({ checkAPI: false, timeout: REQUEST_TIMEOUT_MS });
      const info = await manager.streams.info(EVENT_STREAM);
      session.stream = info.created as unknown as string;
      session.streamEnd = info.state.messages === 0 ? 0 : info.state.last_seq;
    } catch (error) {
      this.#log.debug({ reason: describeError(error) }, 'the event stream is not there yet');
    }
  }

  /** Asks for the watermark. No answer is no reason to send anything again. */
  async #ask(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    const { node, epoch } = this.#spool;
    const request = watermarkRequestMessage.encode({ node, epoch, reported: true });
    try {
      const reply = await session.connection.request(watermarkRequestSubject(node), request, {
        timeout: REQUEST_TIMEOUT_MS,
      });
      this.#onWatermark(reply.data, session, { isAnswer: true });
    } catch (error) {
      this.#log.debug({ reason: describeError(error) }, 'no watermark was answered');
    }
  }

  #onWatermark(bytes: Uint8Array, session: Session, { isAnswer }: { isAnswer: boolean }): void {
    // Until the stream is known, places in it cannot be compared; the session asks again when it is.
    if (session !== this.#session || session.stream === undefined) return;
    let watermark: Watermark;
    try {
      watermark = watermarkMessage.decode(bytes);
    } catch (error) {
      this.#log.warn({ err: error }, 'a watermark is unreadable');
      return;
    }
    if (watermark.epoch !== this.#spool.epoch || this.#renewing) return;
    this.#lastWatermarkAt = performance.now();
    if (watermark.appliedSeq > Math.max(this.#ledger.publishedSeq, this.#spool.ownSeq)) {
      void this.#renewEpoch(watermark);
      return;
    }
    const isOfStream = sameStream(session.stream, watermark.streamCreated);
    const isStreamRead = session.streamEnd === 0 || (isOfStream && watermark.streamSeq >= session.streamEnd);
    if (isAnswer && isStreamRead) this.#confirmUnlessOlder(watermark);
    if (!isOfStream) void this.#lookUpStream(session);
    const lost = this.#ledger.applied(watermark, session.stream);
    if (lost > 0)
      this.#log.warn({ events: lost }, 'the stream has lost events that it had acknowledged, sending again');
    if (this.#isOlderCopy && this.#ledger.appliedSeq >= this.#spool.ownSeq) {
      void this.#renewEpoch(watermark);
      return;
    }
    this.#trimSoon();
    this.#pump();
  }

  #trimSoon(): void {
    const wait = this.#trimmedAt + TRIM_INTERVAL_MS - performance.now();
    if (wait <= 0 || this.#spool.isHalfFull) void this.#trim();
    else this.#trimTimer ??= setTimeout(() => void this.#trim(), wait);
  }

  /** Ends with the trim that is under way, where there is one. */
  #trim(): Promise<void> {
    clearTimeout(this.#trimTimer);
    this.#trimTimer = undefined;
    this.#trimming ??= this.#trimAll().finally(() => {
      this.#trimming = undefined;
      this.#trimmedAt = performance.now();
    });
    return this.#trimming;
  }

  async #trimAll(): Promise<void> {
    try {
      while (this.#spool.appliedSeq < this.#ledger.appliedSeq) await this.#spool.trim(this.#ledger.appliedSeq);
    } catch (error) {
      this.#log.error({ err: error }, 'the spool cannot be trimmed');
    }
  }

  /**
   * The control plane has read all that the stream had when the session began. Where it has heard of no more than processes before this one
   * left in the spool, that is no older copy. What this process accepted does not count: others may have had its numbers.
   */
  #confirmUnlessOlder({ reportedSeq = 0 }: Watermark): void {
    const { isConfirmed, ownSeq } = this.#spool;
    if (isConfirmed || this.#confirming !== undefined || this.#isOlderCopy) return;
    if (reportedSeq > ownSeq) {
      this.#isOlderCopy = true;
      this.#log.error({ ownSeq, reportedSeq }, 'the spool is an older copy of itself, its last events are lost');
      return;
    }
    this.#confirming = this.#spool
      .confirm()
      .catch((err: unknown) => this.#log.error({ err }, 'the spool could not be confirmed'))
      .finally(() => {
        this.#confirming = undefined;
      });
  }

  async #renewEpoch(watermark: Watermark): Promise<void> {
    if (this.#renewing) return;
    this.#renewing = true;
    try {
      this.#log.error({ watermark }, 'the spool is an older copy of itself, starting a new epoch');
      await this.#spool.renewEpoch();
      this.#ledger = new PublishLedger(0);
      this.#isOlderCopy = false;
    } catch (error) {
      this.#log.error({ err: error }, 'no new epoch could be started');
    } finally {
      this.#renewing = false;
      this.#pump();
    }
  }

  #appended(): void {
    if (this.#spool.lastSeq - this.#ledger.publishedSeq >= MAX_EVENTS_PER_MESSAGE) this.#pump();
    this.#flushTimer ??= setTimeout(() => {
      this.#flushTimer = undefined;
      this.#flushDue = true;
      this.#pump();
    }, FLUSH_MS);
  }

  #pump(): void {
    const session = this.#session;
    try {
      while (session?.ready && session.inFlight < MAX_IN_FLIGHT && this.#retryTimer === undefined && !this.#renewing) {
        const range = this.#nextRange();
        if (range === undefined) break;
        this.#publish(session, range);
      }
    } catch (error) {
      // The spool cannot be read. Tunnels live on; what is in it is not given up.
      if (session !== undefined) this.#retryLater(session, error);
    }
    if (this.#isDrained()) this.#drained?.();
  }

  #nextRange(): SeqRange | undefined {
    const due = this.#ledger.nextDue(MAX_EVENTS_PER_MESSAGE);
    if (due !== undefined) return due;
    const { publishedSeq, uncommitted } = this.#ledger;
    const last = this.#isOlderCopy ? this.#spool.ownSeq : this.#spool.lastSeq;
    const waiting = Math.min(last - publishedSeq, this.#maxUncommitted - uncommitted);
    if (waiting <= 0) {
      if (this.#spool.lastSeq === publishedSeq) this.#flushDue = false;
      return undefined;
    }
    if (waiting < MAX_EVENTS_PER_MESSAGE && !this.#flushDue) return undefined;
    return { first: publishedSeq + 1, last: publishedSeq + Math.min(waiting, MAX_EVENTS_PER_MESSAGE) };
  }

  #publish(session: Session, range: SeqRange): void {
    const events = fitting(this.#spool.read(range.first, range.last, MAX_EVENTS_PER_MESSAGE));
    const last = events.at(-1)?.seq ?? range.last;
    if (range.first <= this.#ledger.publishedSeq) this.#repeated += events.length;
    const ledger = this.#ledger;
    const id = ledger.sending({ first: range.first, last });
    if (events.length === 0) return;
    void this.#send(session, ledger, id, events);
  }

  async #send(session: Session, ledger: PublishLedger, id: number, events: readonly SpooledEvent[]): Promise<void> {
    // The envelopes are kept as JSON: joined, they are the message, without parsing them again.
    const message = Buffer.from(`[${events.map(({ json }) => json).join(',')}]`);
    const streamCreated = session.stream ?? '';
    session.inFlight++;
    try {
      const ack = await session.js.publish(nodeEventSubject(this.#spool.node), message, {
        timeout: PUBLISH_TIMEOUT_MS,
      });
      if (ack.stream !== EVENT_STREAM) throw new Error(`the events went to the stream ${ack.stream}`);
      ledger.acked(id, { streamSeq: ack.seq, streamCreated });
      this.#acked += events.length;
      this.#failuresInARow = 0;
    } catch (error) {
      this.#failures++;
      ledger.failed(id);
      if (session === this.#session) this.#retryLater(session, error);
    } finally {
      session.inFlight--;
      this.#pump();
    }
  }

  #retryLater(session: Session, error: unknown): void {
    if (this.#retryTimer !== undefined) return;
    this.#log.warn({ reason: describeError(error) }, 'publishing failed, trying again');
    this.#retryTimer = setTimeout(
      async () => {
        // The stream may have been made anew, and what was stored after all need not be sent again.
        await Promise.all([this.#lookUpStream(session), this.#ask()]);
        if (session !== this.#session) return;
        this.#retryTimer = undefined;
        this.#pump();
      },
      retryDelay(this.#failuresInARow++),
    );
  }

  #isDrained(): boolean {
    return this.#ledger.publishedSeq >= this.#spool.lastSeq && this.#ledger.settled;
  }
}

/** As many of the events, from the first, as fit into one message; at least one. */
function fitting(events: readonly SpooledEvent[]): readonly SpooledEvent[] {
  let bytes = 0;
  const end = events.findIndex(({ json }, i) => {
    bytes += Buffer.byteLength(json) + 1;
    return i > 0 && bytes > MAX_MESSAGE_BYTES;
  });
  return end < 0 ? events : events.slice(0, end);
}

function retryDelay(attempt: number): number {
  return Math.min(MAX_RETRY_MS, MIN_RETRY_MS * 2 ** Math.min(attempt, 10));
}
