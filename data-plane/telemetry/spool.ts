import { randomBytes } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { CodedError } from '../../shared/errors.ts';
import { type EventType, MAX_EVENT_VERSION, type NewEvent, type VpnEvent } from '../../shared/events/envelope.ts';
import { currentVersion } from '../../shared/events/event-versions.ts';
import type { NodeDatabase } from '../state/node-database.ts';

/** Ours: what the spool keeps of events that are not committed yet. */
export const DEFAULT_SPOOL_MAX_EVENTS = 2_000_000;
export const DEFAULT_SPOOL_MAX_BYTES = 2 ** 30;
/** Ours: on top of the limits, for events that end something: every open connection can still be closed on record. */
export const DEFAULT_SPOOL_RESERVE_EVENTS = 100_000;
export const DEFAULT_SPOOL_RESERVE_BYTES = 64 * 2 ** 20;

/** Ours: events that are deleted in one transaction, which takes some hundreds of kilobytes of the disk for a moment. */
const TRIM_EVENTS = 1_000;

const INSERT_EVENT = 'INSERT INTO spool (seq, incarnation, bytes, event) VALUES (?, ?, ?, ?)';

const URGENT: ReadonlySet<EventType> = new Set<EventType>([
  'connection.closed',
  'address.released',
  'node.started',
  'node.draining',
  'node.stopped',
]);

export class SpoolFullError extends CodedError {
  constructor(events: number, bytes: number) {
    super('SPOOL_FULL', `the spool is full: ${events} events, ${bytes} bytes are not committed yet`);
  }
}

/** The disk has room for nothing but ends: to delete what is committed takes room as well, and a disk without any never gets it back. */
export class SpoolDiskFullError extends CodedError {
  constructor(freeBytes: number, reserveBytes: number) {
    super('SPOOL_FULL', `the disk of the spool has ${freeBytes} bytes left, ${reserveBytes} are kept for ends`);
  }
}

export interface SpoolOptions {
  readonly node: string;
  /** New with every start of the process: 128 random bits, hexadecimal. */
  readonly incarnation: string;
  readonly maxEvents?: number;
  readonly maxBytes?: number;
  readonly reserveEvents?: number;
  readonly reserveBytes?: number;
}

/** An event and the JSON of its data: a window of 50 connections has 12 KiB of it, which is written and measured once. */
interface WrittenEvent {
  readonly event: NewEvent;
  readonly json: string;
  readonly bytes: number;
}

function writeData(event: NewEvent): WrittenEvent {
  const json = JSON.stringify(event.data);
  return { event, json, bytes: Buffer.byteLength(json) };
}

/** An event as it goes into a message: the JSON of its envelope. */
export interface SpooledEvent {
  readonly seq: number;
  readonly json: string;
}

/**
 * The node's events on disk, from acceptance until Postgres has them. (epoch, seq) is given inside the transaction that
 * stores the event, so an event that was not stored leaves no hole.
 */
export class Spool {
  readonly node: string;
  readonly incarnation: string;
  readonly #database: NodeDatabase;
  readonly #limits: { events: number; bytes: number; reserveEvents: number; reserveBytes: number };
  readonly #listeners = new Set<() => void>();
  /** Of an envelope at its longest, without type, time and data. */
  readonly #envelopeBytes: number;
  /** The last sequence that a process before this one can have published. */
  readonly ownSeq: number;
  #isConfirmed: boolean;
  #epoch: string;
  #lastSeq: number;
  #appliedSeq: number;
  #events: number;
  #bytes: number;

  constructor(database: NodeDatabase, options: SpoolOptions) {
    this.#database = database;
    this.node = options.node;
    this.incarnation = options.incarnation;
    this.#limits = {
      events: options.maxEvents ?? DEFAULT_SPOOL_MAX_EVENTS,
      bytes: options.maxBytes ?? DEFAULT_SPOOL_MAX_BYTES,
      reserveEvents: options.reserveEvents ?? DEFAULT_SPOOL_RESERVE_EVENTS,
      reserveBytes: options.reserveBytes ?? DEFAULT_SPOOL_RESERVE_BYTES,
    };
    const row = database.reader.prepare('SELECT epoch, last_seq, applied_seq, confirmed FROM epoch').get();
    this.#epoch = row === undefined ? newId() : String(row.epoch);
    this.#lastSeq = Number(row?.last_seq ?? 0);
    this.#appliedSeq = Number(row?.applied_seq ?? 0);
    this.#isConfirmed = row === undefined;
    this.ownSeq = typeof row?.confirmed === 'string' ? this.#lastSeqOf(row.confirmed) : this.#lastSeq;
    const held = database.reader.prepare('SELECT count(*) AS events, total(bytes) AS bytes FROM spool').get();
    this.#events = Number(held?.events);
    this.#bytes = Number(held?.bytes);
    const { node, incarnation, epoch } = this;
    const longest = { node, epoch, seq: 2 ** 53, incarnation, type: '', version: MAX_EVENT_VERSION, at: '', data: 0 };
    this.#envelopeBytes = Buffer.byteLength(JSON.stringify(longest));
  }

  /** 128 random bits made with the file: a lost file is a new epoch. */
  get epoch(): string {
    return this.#epoch;
  }

  /** The last sequence that is on disk. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** The last sequence that is forgotten, since it is committed to Postgres. */
  get appliedSeq(): number {
    return this.#appliedSeq;
  }

  /**
   * Whether numbers of this epoch are this spool's own. Those of a file that is an older copy of itself may have been given already, to
   * events that the file does not know of.
   */
  get isConfirmed(): boolean {
    return this.#isConfirmed;
  }

  /** Notes that it is no older copy. Nothing may be published before this resolves. */
  async confirm(): Promise<void> {
    await this.#database.commit((db) => db.prepare('UPDATE epoch SET confirmed = ?').run(this.incarnation));
    this.#isConfirmed = true;
  }

  /** Events that are kept, those on their way to the disk included: what is committed goes a little later. */
  get depth(): number {
    return this.#events;
  }

  /** Bytes of those events as JSON. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many events and bytes there may be; what ends something may exceed them by a reserve. */
  get limits(): { readonly events: number; readonly bytes: number } {
    return this.#limits;
  }

  /** Whether an event that is not urgent would be refused now. */
  get full(): boolean {
    return this.#events >= this.#limits.events || this.#bytes >= this.#limits.bytes;
  }

  /** Whether what is committed should not stay any longer. */
  get isHalfFull(): boolean {
    return 2 * this.#events >= this.#limits.events || 2 * this.#bytes >= this.#limits.bytes;
  }

  /** Calls back after each group of appended events is on disk. Returns the way to stop. */
  onAppended(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Stores events, together with the statements of `alongWith`, in one transaction; resolves after its fsync.
   * Rejects with SpoolFullError (nothing was stored; events that end something are taken from a reserve) or StateError.
   */
  async append(events: readonly NewEvent[], alongWith?: (db: DatabaseSync) => void): Promise<VpnEvent[]> {
    const urgent = events.every((event) => URGENT.has(event.type));
    const written = events.map(writeData);
    const bytes = written.reduce((sum, one) => sum + this.#mostBytesOf(one), 0);
    const { events: maxEvents, bytes: maxBytes, reserveEvents, reserveBytes } = this.#limits;
    if (
      this.#events + events.length > maxEvents + (urgent ? reserveEvents : 0) ||
      this.#bytes + bytes > maxBytes + (urgent ? reserveBytes : 0)
    ) {
      throw new SpoolFullError(this.#events, this.#bytes);
    }
    const { freeBytes, reservedBytes } = this.#database.room;
    if (!urgent && freeBytes < reservedBytes) throw new SpoolDiskFullError(freeBytes, reservedBytes);
    this.#events += events.length;
    this.#bytes += bytes;
    let stored: { readonly events: VpnEvent[]; readonly bytes: number } | undefined;
    try {
      stored = await this.#database.commit((db) => {
        alongWith?.(db);
        return this.#store(db, written);
      });
    } finally {
      if (stored === undefined) this.#events -= events.length;
      this.#bytes += (stored?.bytes ?? 0) - bytes;
    }
    const last = stored.events.at(-1);
    // Groups resolve in order. An epoch that was renewed meanwhile has set its own numbers.
    if (last !== undefined && last.epoch === this.#epoch) this.#lastSeq = Math.max(this.#lastSeq, last.seq);
    for (const listener of this.#listeners) listener();
    return stored.events;
  }

  /** Up to `limit` stored events from `fromSeq` to `toSeq`, in order. */
  read(fromSeq: number, toSeq: number, limit: number): SpooledEvent[] {
    const rows = this.#database.reader
      .prepare('SELECT seq, event FROM spool WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?')
      .all(fromSeq, toSeq, limit);
    return rows.map((row) => ({ seq: Number(row.seq), json: String(row.event) }));
  }

  /** Forgets what is committed, a part after the other: what a full disk has left is enough for each. */
  async trim(appliedSeq: number): Promise<void> {
    const epoch = this.#epoch;
    while (this.#appliedSeq < appliedSeq && this.#epoch === epoch) {
      await this.#trimTo(Math.min(appliedSeq, this.#appliedSeq + TRIM_EVENTS), epoch);
    }
  }

  async #trimTo(appliedSeq: number, epoch: string): Promise<void> {
    const gone = await this.#database.commit((db) => {
      // Numbers of an epoch that was renewed meanwhile are of other events.
      if (this.#epoch !== epoch) return undefined;
      const sums = db
        .prepare('SELECT count(*) AS events, total(bytes) AS bytes FROM spool WHERE seq <= ?')
        .get(appliedSeq);
      db.prepare('DELETE FROM spool WHERE seq <= ?').run(appliedSeq);
      db.prepare('UPDATE epoch SET applied_seq = max(applied_seq, ?)').run(appliedSeq);
      return { events: Number(sums?.events), bytes: Number(sums?.bytes) };
    });
    if (gone === undefined) return;
    this.#appliedSeq = Math.max(this.#appliedSeq, appliedSeq);
    this.#events -= gone.events;
    this.#bytes -= gone.bytes;
  }

  /**
   * Starts a new epoch, for a file that is an older copy of itself, all of which up to `ownSeq` is committed and dropped. What was appended
   * since the copy was made is numbered afresh, because other events had its numbers.
   */
  async renewEpoch(): Promise<void> {
    const [before, after] = [this.#epoch, newId()];
    let change: { events: number; bytes: number; kept: number } | undefined;
    try {
      change = await this.#database.commit((db) => {
        const held = db.prepare('SELECT count(*) AS events, total(bytes) AS bytes FROM spool').get();
        const rows = db.prepare('SELECT incarnation, event FROM spool WHERE seq > ? ORDER BY seq').all(this.ownSeq);
        db.exec('DELETE FROM spool; DELETE FROM epoch');
        this.#epoch = after;
        this.#takeSequences(db, rows.length);
        const insert = db.prepare(INSERT_EVENT);
        let total = 0;
        rows.forEach(({ incarnation, event }, i) => {
          const json = JSON.stringify({ ...JSON.parse(String(event)), epoch: after, seq: i + 1 });
          const bytes = Buffer.byteLength(json);
          total += bytes;
          insert.run(i + 1, incarnation!, bytes, json);
        });
        return { events: rows.length - Number(held?.events), bytes: total - Number(held?.bytes), kept: rows.length };
      });
    } finally {
      if (change === undefined) this.#epoch = before;
    }
    this.#isConfirmed = true;
    this.#appliedSeq = 0;
    this.#lastSeq = change.kept;
    this.#events += change.events;
    this.#bytes += change.bytes;
  }

  #store(db: DatabaseSync, events: readonly WrittenEvent[]): { events: VpnEvent[]; bytes: number } {
    const first = this.#takeSequences(db, events.length);
    const insert = db.prepare(INSERT_EVENT);
    let total = 0;
    const stored = events.map((written, i) => {
      const { event, json, bytes } = this.#encode(written, first + i);
      total += bytes;
      insert.run(first + i, this.incarnation, bytes, json);
      return event;
    });
    return { events: stored, bytes: total };
  }

  #takeSequences(db: DatabaseSync, count: number): number {
    const row =
      db.prepare('UPDATE epoch SET last_seq = last_seq + ? RETURNING last_seq').get(count) ??
      db
        .prepare(
          'INSERT INTO epoch (id, epoch, last_seq, applied_seq, confirmed) VALUES (1, ?, ?, 0, ?) RETURNING last_seq',
        )
        .get(this.#epoch, count, this.incarnation);
    return Number(row?.last_seq) - count + 1;
  }

  /** Of a process before this one. What it does not keep any more of that is committed. */
  #lastSeqOf(incarnation: string): number {
    const row = this.#database.reader
      .prepare('SELECT max(seq) AS seq FROM spool WHERE incarnation = ?')
      .get(incarnation);
    return Math.max(this.#appliedSeq, Number(row?.seq ?? 0));
  }

  /** What the event takes at most: the envelope's own fields are given later. */
  #mostBytesOf({ event: { type, at }, bytes }: WrittenEvent): number {
    return this.#envelopeBytes + type.length + at.length + bytes;
  }

  #encode(
    { event: { type, at, data }, json, bytes }: WrittenEvent,
    seq: number,
  ): { event: VpnEvent; json: string; bytes: number } {
    const { node, incarnation, epoch } = this;
    const envelope = { node, epoch, seq, incarnation, type, version: currentVersion(type), at };
    const begin = `${JSON.stringify(envelope).slice(0, -1)},"data":`;
    return {
      event: { ...envelope, data } as VpnEvent,
      json: `${begin}${json}}`,
      bytes: Buffer.byteLength(begin) + bytes + 1,
    };
  }
}

function newId(): string {
  return randomBytes(16).toString('hex');
}
