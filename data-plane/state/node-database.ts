import { chmodSync, closeSync, fsyncSync, openSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { errorCode } from '../../shared/errors.ts';
import { SCHEMA_VERSIONS } from './schema.ts';
import { prepareStateDirectory } from './state-directory.ts';
import { corrupt, openingError, StateError } from './state-error.ts';

/** Mode of the file, and of those that SQLite keeps beside it. */
const OWNER_ONLY = 0o600;
/** Ours: how long a group gathers while groups follow each other, milliseconds. */
export const GROUP_COMMIT_MS = 10;
/** Ours: up to this size the whole file is checked at the start; larger ones would delay it by seconds. */
const CHECK_UP_TO_BYTES = 64 * 2 ** 20;

/**
 * Ours: what is left free of the disk, bytes, and no more than a quarter of it. SQLite needs it to delete anything: the log of changes grows to
 * 4 MiB before it is written back.
 */
const RESERVED_BYTES = 16 * 2 ** 20;
const RESERVED_SHARE = 1 / 4;
/** Ours: for how long a look at the disk is good, milliseconds. */
const LOOK_AT_DISK_MS = 100;

export interface DiskRoom {
  readonly freeBytes: number;
  /** With less than this free only what cannot wait should be written. */
  readonly reservedBytes: number;
}

interface Pending {
  readonly work: (db: DatabaseSync) => unknown;
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

/** Parses each statement once. Their texts are few, and to parse one takes longer than to run it. */
class ParsingOnce extends DatabaseSync {
  readonly #statements = new Map<string, StatementSync>();

  override prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = super.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

/**
 * The state of one node on disk: `node.sqlite` in STATE_DIR. Writes are grouped: all that is handed in within
 * 10 ms is written in one transaction and fsynced once. The file is locked as long as it is open, by the kernel, so a
 * killed process leaves nothing behind that blocks the next one.
 */
export class NodeDatabase {
  readonly file: string;
  readonly #db: DatabaseSync;
  #pending: Pending[] = [];
  #timer: NodeJS.Timeout | NodeJS.Immediate | undefined;
  #lastCommitAt = Number.NEGATIVE_INFINITY;
  #closed = false;
  #room: (DiskRoom & { readonly at: number }) | undefined;

  /**
   * Opens or creates the database. Throws ConfigError when the directory is none that can be used, and StateError, whose message
   * names the file and what to do.
   */
  constructor(stateDir: string) {
    this.file = join(stateDir, 'node.sqlite');
    prepareStateDirectory(stateDir);
    try {
      this.#db = open(this.file);
      syncDirectory(stateDir);
    } catch (error) {
      throw openingError(this.file, error);
    }
  }

  /** For reading: it sees what is committed. Writes go through `commit`. */
  get reader(): DatabaseSync {
    return this.#db;
  }

  /** What is left of the disk. */
  get room(): DiskRoom {
    const now = performance.now();
    if (this.#room === undefined || now - this.#room.at > LOOK_AT_DISK_MS) {
      const { bavail, blocks, bsize } = statfsSync(dirname(this.file));
      const reservedBytes = Math.min(RESERVED_BYTES, Math.floor(blocks * bsize * RESERVED_SHARE));
      this.#room = { at: now, freeBytes: bavail * bsize, reservedBytes };
    }
    return this.#room;
  }

  /**
   * Runs `work` in the next group and resolves with its value after the fsync. When `work` throws, what it wrote is taken
   * back and the promise rejects, while the rest of the group stands. Rejects with StateError when the disk refuses.
   */
  commit<T>(work: (db: DatabaseSync) => T): Promise<T> {
    if (this.#closed) return Promise.reject(new StateError('STATE_WRITE_FAILED', `${this.file} is closed`));
    return new Promise<T>((resolve, reject) => {
      this.#pending.push({ work, resolve, reject });
      this.#schedule();
    });
  }

  /** Writes what is pending and closes the file. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#db.close();
  }

  #schedule(): void {
    if (this.#timer !== undefined) return;
    const wait = this.#lastCommitAt + GROUP_COMMIT_MS - performance.now();
    // After a pause nobody has to wait: only what is handed in during this turn of the event loop shares the fsync.
    this.#timer = wait <= 0 ? setImmediate(() => this.#flush()) : setTimeout(() => this.#flush(), wait);
  }

  #flush(): void {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer as NodeJS.Timeout);
      clearImmediate(this.#timer as NodeJS.Immediate);
      this.#timer = undefined;
    }
    const group = this.#pending;
    if (group.length === 0) return;
    this.#pending = [];
    const outcomes: Outcome[] = [];
    try {
      this.#db.prepare('BEGIN IMMEDIATE').run();
      for (const { work } of group) outcomes.push(this.#attempt(work, group.length === 1));
      this.#db.prepare('COMMIT').run();
    } catch (cause) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      const error = new StateError('STATE_WRITE_FAILED', `${this.file} cannot be written`, { cause });
      for (const { reject } of group) reject(error);
      return;
    } finally {
      this.#lastCommitAt = performance.now();
    }
    group.forEach(({ resolve, reject }, i) => {
      const outcome = outcomes[i]!;
      if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.value as never);
    });
  }

  /** What is alone in its group needs no savepoint: there is nothing else to keep. */
  #attempt(work: (db: DatabaseSync) => unknown, isAlone: boolean): Outcome {
    if (!isAlone) this.#db.prepare('SAVEPOINT work').run();
    try {
      const value = work(this.#db);
      if (!isAlone) this.#db.prepare('RELEASE work').run();
      return { value };
    } catch (error) {
      // A full disk can end the whole transaction; then there is no savepoint left, and COMMIT fails for everyone.
      if (!this.#db.isTransaction) throw error;
      this.#db.exec(isAlone ? 'ROLLBACK; BEGIN' : 'ROLLBACK TO work; RELEASE work');
      return { error };
    }
  }
}

function open(file: string): DatabaseSync {
  makePrivate(file);
  const db = new ParsingOnce(file);
  try {
    // EXCLUSIVE keeps the file lock until the connection closes: a second process gets SQLITE_BUSY at once.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    db.exec('BEGIN EXCLUSIVE; COMMIT');
    check(db, file);
    migrate(db, file);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Before SQLite opens it, since its log of changes gets the mode that the file has then. */
function makePrivate(file: string): void {
  try {
    closeSync(openSync(file, 'wx', OWNER_ONLY));
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
    chmodSync(file, OWNER_ONLY);
  }
}

function check(db: DatabaseSync, file: string): void {
  if (statSync(file).size > CHECK_UP_TO_BYTES) return;
  const row = db.prepare('PRAGMA quick_check(1)').get();
  const answer = row === undefined ? 'no answer' : String(Object.values(row)[0]);
  if (answer !== 'ok') throw corrupt(file, new Error(answer));
}

function migrate(db: DatabaseSync, file: string): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version ?? 0);
  if (version > SCHEMA_VERSIONS.length) {
    throw new StateError(
      'STATE_TOO_NEW',
      `${file} has schema version ${version}; this build knows versions up to ${SCHEMA_VERSIONS.length}`,
    );
  }
  for (let next = version; next < SCHEMA_VERSIONS.length; next++) {
    db.exec(`BEGIN IMMEDIATE; ${SCHEMA_VERSIONS[next]}; PRAGMA user_version = ${next + 1}; COMMIT`);
  }
}

/** A new file is only there after a power cut when its directory is on disk too. */
function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
