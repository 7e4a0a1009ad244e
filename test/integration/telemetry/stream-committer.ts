import { connect, type NatsConnection } from 'nats';
import { decodeEvents, type EventEnvelope } from '../../../shared/events/envelope.ts';
import {
  WATERMARK_REQUEST_SUBJECTS,
  type Watermark,
  watermarkMessage,
  watermarkSubject,
} from '../../../shared/nats/messages.ts';
import { EVENT_STREAM, ensureEventStream } from '../../../shared/nats/streams.ts';

/**
 * What the control plane does for a node, in memory: reads the stream, applies events in order, parks what comes early,
 * and answers and announces watermarks. A test says when it runs.
 */
export class StreamCommitter {
  readonly node: string;
  readonly epoch: string;
  readonly applied = new Map<number, EventEnvelope>();
  readonly parked = new Map<number, EventEnvelope>();
  /** How often each sequence was read, repeats included. */
  readonly deliveries = new Map<number, number>();
  readonly messageSizes: number[] = [];
  /** Requests that were answered. */
  asked = 0;
  isAnswering = true;
  appliedSeq = 0;
  /** What answers say of it; nothing, like a control plane of old. */
  reportedSeq: number | undefined;
  #streamSeq = 0;
  #streamCreated = '';
  #connection: NatsConnection;

  private constructor(connection: NatsConnection, node: string, epoch: string) {
    this.#connection = connection;
    this.node = node;
    this.epoch = epoch;
    connection.subscribe(WATERMARK_REQUEST_SUBJECTS, {
      callback: (_error, message) => {
        if (!this.isAnswering) return;
        const { reportedSeq } = this;
        const reported = reportedSeq === undefined ? {} : { reportedSeq };
        message.respond(watermarkMessage.encode({ ...this.watermark(), ...reported }));
        this.asked++;
      },
    });
  }

  static async open(url: string, node: string, epoch: string): Promise<StreamCommitter> {
    const { host, username, password } = new URL(url);
    const connection = await connect({
      servers: host,
      user: username,
      pass: password,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
    });
    await ensureEventStream(await connection.jetstreamManager());
    return new StreamCommitter(connection, node, epoch);
  }

  watermark(): Watermark {
    const { epoch, appliedSeq } = this;
    return { epoch, appliedSeq, streamSeq: this.#streamSeq, streamCreated: this.#streamCreated };
  }

  /** Reads what is new in the stream; announces the watermark. A stream that went back is read from its first message. */
  async commit(): Promise<number> {
    const manager = await this.#connection.jetstreamManager({ checkAPI: false, timeout: 1_000 });
    const info = await manager.streams.info(EVENT_STREAM);
    const created = info.created as unknown as string;
    if (created !== this.#streamCreated || info.state.last_seq < this.#streamSeq) this.#streamSeq = 0;
    this.#streamCreated = created;
    while (this.#streamSeq < info.state.last_seq) {
      const message = await manager.streams.getMessage(EVENT_STREAM, { seq: this.#streamSeq + 1 });
      this.#streamSeq++;
      this.#read(decodeEvents(message.data));
    }
    this.#connection.publish(watermarkSubject(this.node), watermarkMessage.encode(this.watermark()));
    return this.appliedSeq;
  }

  async makeStreamAnew(): Promise<void> {
    const manager = await this.#connection.jetstreamManager();
    await manager.streams.delete(EVENT_STREAM);
    await ensureEventStream(manager);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  #read(events: EventEnvelope[]): void {
    this.messageSizes.push(events.length);
    for (const event of events) {
      if (event.epoch !== this.epoch) continue;
      this.deliveries.set(event.seq, (this.deliveries.get(event.seq) ?? 0) + 1);
      if (event.seq > this.appliedSeq) this.parked.set(event.seq, event);
    }
    for (;;) {
      const next = this.parked.get(this.appliedSeq + 1);
      if (next === undefined) return;
      this.parked.delete(next.seq);
      this.applied.set(next.seq, next);
      this.appliedSeq = next.seq;
    }
  }
}
