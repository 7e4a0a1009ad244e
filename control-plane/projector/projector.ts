import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection, StreamInfo } from 'nats';
import type { Logger } from '../../shared/log/logger.ts';
import { EVENT_STREAM, ensureEventStream } from '../../shared/nats/streams.ts';
import { ProjectionMemory } from '../projections/projection-memory.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { NotLeaderError, type Term } from '../storage/term.ts';
import { applyBatch, type BatchResult, readCheckpoint, type StreamPosition } from './apply-batch.ts';
import { deleteEarlierConsumers, readEvents } from './event-consumer.ts';
import { FoldSchedule } from './fold-schedule.ts';
import type { ReadMessage } from './read-message.ts';
import { answerWatermarkRequests, publishWatermarks, readAppliedEpochs } from './watermarks.ts';

/** Ours: pauses between attempts while something is away; doubled each time. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** Ours: after this long without a message there is time for what was put off. */
const IDLE_MS = 100;
/** Ours: with fewer messages than this left in the stream, what was projected is as good as new. */
const LIVE_BACKLOG = 500;

export interface ProjectorOptions {
  readonly database: Database;
  readonly nats: NatsConnection;
  readonly log: Logger;
  /** As in ReadOptions. */
  readonly watchdogMs?: number;
}

/** What this process has projected since it started. */
export interface ProjectorState {
  readonly batches: number;
  readonly applied: number;
  readonly repeats: number;
  readonly parked: number;
  readonly deadLetters: number;
  readonly gaps: number;
  /** Consumers that were built anew after something broke. */
  readonly restarts: number;
  /** Position of the newest event of the log; 0 before the first commit. */
  readonly position: number;
  /** Last message of the stream that is projected; 0 before the first commit. */
  readonly streamSeq: number;
  /** Milliseconds since 1970; null before the first commit. */
  readonly lastCommitAt: number | null;
}

/** Moves events from the stream into the log and all projections, each exactly once, for as long as a term lasts. */
export class Projector {
  readonly name = 'projector';
  /**
   * How far the clock of each node is ahead of Postgres', seconds, by its newest live event of this term: one that did
   * not wait in the stream. A node that sends what it kept during an outage looks behind meanwhile.
   */
  readonly clockSkews = new Map<string, number>();
  private readonly options: ProjectorOptions;
  private current: ProjectorState = {
    batches: 0,
    applied: 0,
    repeats: 0,
    parked: 0,
    deadLetters: 0,
    gaps: 0,
    restarts: 0,
    position: 0,
    streamSeq: 0,
    lastCommitAt: null,
  };

  constructor(options: ProjectorOptions) {
    this.options = options;
  }

  state(): ProjectorState {
    return this.current;
  }

  /**
   * Projects until the term's signal aborts. Whatever is away is waited for; after every failure it starts again from
   * the checkpoint. Throws NotLeaderError when another term has begun.
   */
  async run(term: Term): Promise<void> {
    const { nats, database, log } = this.options;
    const responder = answerWatermarkRequests(nats, database, log);
    let pauseMs = FIRST_PAUSE_MS;
    this.clockSkews.clear();
    const memory = new ProjectionMemory();
    try {
      while (!term.signal.aborted) {
        const batchesBefore = this.current.batches;
        try {
          await this.project(term, memory);
        } catch (error) {
          if (term.signal.aborted) return;
          if (error instanceof NotLeaderError) throw error;
          log.warn({ err: error }, 'projection broke off, starting again from the checkpoint');
          this.current = { ...this.current, restarts: this.current.restarts + 1 };
        }
        // The first batch of each attempt only sets the checkpoint.
        if (this.current.batches > batchesBefore + 1) pauseMs = FIRST_PAUSE_MS;
        await delay(pauseMs, undefined, { signal: term.signal }).catch(() => undefined);
        pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      }
    } finally {
      responder.unsubscribe();
    }
  }

  /** One consumer, from the checkpoint on. */
  private async project(term: Term, memory: ProjectionMemory): Promise<void> {
    const { nats, database, watchdogMs } = this.options;
    const manager = await nats.jetstreamManager();
    await ensureEventStream(manager);
    const stored = await readCheckpoint(database);
    let position = startOf(stored, await manager.streams.info(EVENT_STREAM));
    // Committed before anything is read: nodes have to hear of a new stream even if it stays empty.
    const projection = { memory, folds: new FoldSchedule(memory) };
    await this.commit(term, stored, position, [], projection);
    await deleteEarlierConsumers(manager, term.ownerEpoch);
    publishWatermarks(nats, await readAppliedEpochs(database), position);

    const idleMs = () => (projection.folds.isBehind() ? IDLE_MS : undefined);
    const first = position.streamSeq + 1;
    const batches = readEvents(nats, manager, term.ownerEpoch, first, term.signal, { idleMs, watchdogMs });
    for await (const { messages, readAhead } of batches) {
      const last = messages.at(-1)?.message;
      if (last === undefined) {
        await this.commit(term, position, position, [], projection);
        continue;
      }
      const next = { streamCreated: position.streamCreated, streamSeq: last.seq };
      const read = messages.map((message) => message.read);
      const { epochs, aheadSeconds } = await this.commit(term, position, next, read, projection, readAhead);
      if (last.info.pending < LIVE_BACKLOG)
        for (const [node, seconds] of aheadSeconds) this.clockSkews.set(node, seconds);
      position = next;
      publishWatermarks(nats, epochs, position);
    }
  }

  private async commit(
    term: Term,
    from: StreamPosition,
    to: StreamPosition,
    messages: readonly ReadMessage[],
    { memory, folds }: { readonly memory: ProjectionMemory; readonly folds: FoldSchedule },
    meanwhile?: () => Promise<void>,
  ): Promise<BatchResult> {
    const isIdle = messages.length === 0;
    const fold = (trx: DatabaseTransaction) => folds.run(trx, isIdle);
    const work = { memory, fold, meanwhile };
    const result = await applyBatch(this.options.database, term.ownerEpoch, from, to, messages, work);
    const { current } = this;
    this.current = {
      batches: current.batches + 1,
      applied: current.applied + result.applied,
      repeats: current.repeats + result.repeats,
      parked: current.parked + result.parked,
      deadLetters: current.deadLetters + result.deadLetters,
      gaps: current.gaps + result.gaps,
      restarts: current.restarts,
      position: result.position,
      streamSeq: to.streamSeq,
      lastCommitAt: Date.now(),
    };
    const { deadLetters, gaps, refused } = result;
    if (deadLetters > 0) this.options.log.error({ deadLetters, streamSeq: to.streamSeq }, 'events were set aside');
    if (refused > 0)
      this.options.log.error(
        { refused, streamSeq: to.streamSeq },
        'too many events wait for an earlier one: these come again',
      );
    if (gaps > 0) this.options.log.error({ gaps, streamSeq: to.streamSeq }, 'events will never come: see event_gaps');
    return result;
  }
}

/** Where to go on: behind the checkpoint, or at the stream's begin where that is later or the stream is another one. */
export function startOf(
  stored: StreamPosition,
  { created, state }: Pick<StreamInfo, 'created' | 'state'>,
): StreamPosition {
  const isSame = stored.streamCreated === created && stored.streamSeq <= state.last_seq;
  // The stream forgets its oldest messages; what is missing then is still in the nodes' spools.
  return { streamCreated: created, streamSeq: Math.max(isSame ? stored.streamSeq : 0, state.first_seq - 1) };
}
