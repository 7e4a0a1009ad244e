import type { Watermark } from '../../shared/nats/messages.ts';

/** Sequences `first` to `last`, both included. */
export interface SeqRange {
  readonly first: number;
  readonly last: number;
}

/** Where the stream put a message. `streamCreated` tells a stream from a later one of the same name. */
export interface StreamPosition {
  readonly streamSeq: number;
  readonly streamCreated: string;
}

interface SentRange extends SeqRange {
  readonly position: StreamPosition | undefined;
}

/** Ours: clocks of the same instant may differ by rounding when a creation time has passed through a database. */
const SAME_INSTANT_MS = 1;

/**
 * What was published of a spool and what became of it, without I/O and without a clock. An event is sent once, and again
 * only when its publish failed, when Postgres has moved past the place of its PubAck without having it, when its PubAck is
 * from another stream, or once after a reconnect.
 */
export class PublishLedger {
  #appliedSeq: number;
  /** The first sequence that was never published. */
  #next: number;
  #due: SeqRange[] = [];
  readonly #sent = new Map<number, SentRange>();
  #lastId = 0;

  constructor(appliedSeq: number) {
    this.#appliedSeq = appliedSeq;
    this.#next = appliedSeq + 1;
  }

  get appliedSeq(): number {
    return this.#appliedSeq;
  }

  /** The highest sequence that was ever published; appliedSeq when none was. */
  get publishedSeq(): number {
    return this.#next - 1;
  }

  /** Events that were published and are not known to be committed. */
  get uncommitted(): number {
    return this.#next - 1 - this.#appliedSeq;
  }

  /** Whether every published event has a PubAck or is committed. */
  get settled(): boolean {
    if (this.#due.length > 0) return false;
    for (const range of this.#sent.values()) if (range.position === undefined) return false;
    return true;
  }

  /** The first range that must be sent again, at most `limit` events of it. */
  nextDue(limit: number): SeqRange | undefined {
    const range = this.#due[0];
    return range && { first: range.first, last: Math.min(range.last, range.first + limit - 1) };
  }

  /** Notes that a range is being published: the head of what is due, or what was never sent. Returns its id. */
  sending(range: SeqRange): number {
    const due = this.#due[0];
    if (due !== undefined && range.first === due.first) {
      if (range.last === due.last) this.#due.shift();
      else this.#due[0] = { first: range.last + 1, last: due.last };
    } else {
      this.#next = Math.max(this.#next, range.last + 1);
    }
    this.#sent.set(++this.#lastId, { ...range, position: undefined });
    return this.#lastId;
  }

  acked(id: number, position: StreamPosition): void {
    const range = this.#sent.get(id);
    if (range !== undefined) this.#sent.set(id, { ...range, position });
  }

  /** The publish failed or its outcome is unknown. */
  failed(id: number): void {
    const range = this.#sent.get(id);
    if (range === undefined) return;
    this.#sent.delete(id);
    this.#makeDue([range]);
  }

  /** All that is not committed is to be sent once more: a server that was restarted may have lost what it had acked. */
  reconnected(): void {
    const ranges = [...this.#sent.values()];
    this.#sent.clear();
    this.#makeDue(ranges);
  }

  /**
   * What is committed. `currentStream` is the creation time of the stream that is there now. Returns how many events are
   * to be sent again because of it.
   */
  applied(watermark: Omit<Watermark, 'epoch'>, currentStream: string): number {
    if (watermark.appliedSeq > this.#appliedSeq) {
      this.#appliedSeq = watermark.appliedSeq;
      this.#next = Math.max(this.#next, watermark.appliedSeq + 1);
      this.#due = this.#due.flatMap((range) => this.#beyondApplied(range));
    }
    const lost: SeqRange[] = [];
    for (const [id, range] of this.#sent) {
      const [rest] = this.#beyondApplied(range);
      if (rest === undefined) {
        this.#sent.delete(id);
        continue;
      }
      if (range.position === undefined || this.#underWay(range.position, watermark, currentStream)) continue;
      this.#sent.delete(id);
      lost.push(rest);
    }
    this.#makeDue(lost);
    return lost.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  }

  #underWay(position: StreamPosition, watermark: Omit<Watermark, 'epoch'>, currentStream: string): boolean {
    if (!sameStream(position.streamCreated, currentStream)) return false;
    // A watermark of an older stream says nothing about places in the present one.
    return !sameStream(position.streamCreated, watermark.streamCreated) || position.streamSeq > watermark.streamSeq;
  }

  #beyondApplied({ first, last }: SeqRange): SeqRange[] {
    return last <= this.#appliedSeq ? [] : [{ first: Math.max(first, this.#appliedSeq + 1), last }];
  }

  /** Keeps what is due sorted and joined, so that small messages are sent again as few large ones. */
  #makeDue(ranges: readonly SeqRange[]): void {
    if (ranges.length === 0) return;
    const sorted = [...this.#due, ...ranges.flatMap((range) => this.#beyondApplied(range))];
    sorted.sort((a, b) => a.first - b.first);
    const joined: { first: number; last: number }[] = [];
    for (const { first, last } of sorted) {
      const previous = joined.at(-1);
      if (previous !== undefined && first <= previous.last + 1) previous.last = Math.max(previous.last, last);
      else joined.push({ first, last });
    }
    this.#due = joined;
  }
}

/** Whether two creation times name one stream. */
export function sameStream(a: string, b: string): boolean {
  return a === b || Math.abs(Date.parse(a) - Date.parse(b)) <= SAME_INSTANT_MS;
}
