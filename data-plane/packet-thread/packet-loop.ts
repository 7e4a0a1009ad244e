import type { EventFd } from '../os/event-fd.ts';
import { Poller } from '../os/poller.ts';
import { LoopTimers } from './loop-timers.ts';

/** What is done about one descriptor. */
export interface LoopSource {
  /** Takes a bounded amount, about a millisecond of work: so long the others wait, and what it leads to. */
  drain(): void;
  /** There is room to write; called only while it is watched for. */
  writable?(): void;
}

/** The descriptors that a loop waits for; they may change at any time, also while one of them is handled. */
export interface LoopSources {
  add(fd: number, source: LoopSource): void;
  /** Do it before closing the descriptor. */
  remove(fd: number): void;
  watchWritable(fd: number, watched: boolean): void;
}

/** What a turn of the loop ends with: QUIC events, packets to be sent, and how long it may sleep then. */
export interface LoopTurn {
  /** After each source was drained, and before each wait. */
  endTurn(): void;
  /** Milliseconds until it has to run again without input; -1 for never. */
  timeoutMs(): number;
  onTimeout(): void;
  /** Something in the turn threw: mends it, or throws it again, which ends the loop. */
  recover(error: unknown): void;
}

/**
 * The packet thread's loop: blocks in poll(2) on TUN, UDP and an eventfd by which other threads wake it. It never yields to
 * the event loop of Node, so that nothing but packets runs here.
 */
export class PacketLoop implements LoopSources {
  readonly timers = new LoopTimers();
  readonly #poller = new Poller();
  readonly #sources = new Map<number, { readonly slot: number; readonly source: LoopSource }>();
  readonly #wake: EventFd;
  readonly #wakeSlot: number;
  readonly #onWake: () => void;
  #stopped = false;
  /** Messages may wait: the signal was taken, and they were not all handled. */
  #woken = false;

  constructor(wake: EventFd, onWake: () => void) {
    this.#wake = wake;
    this.#wakeSlot = this.#poller.add(wake.fd);
    this.#onWake = onWake;
  }

  add(fd: number, source: LoopSource): void {
    this.#sources.set(fd, { slot: this.#poller.add(fd), source });
  }

  remove(fd: number): void {
    this.#poller.remove(fd);
    this.#sources.delete(fd);
  }

  watchWritable(fd: number, watched: boolean): void {
    const entry = this.#sources.get(fd);
    if (entry !== undefined) this.#poller.watchWritable(entry.slot, watched);
  }

  /** Makes `run` return after the turn that is under way. */
  stop(): void {
    this.#stopped = true;
  }

  /** Runs until `stop`, or until `recover` throws. */
  run(turn: LoopTurn): void {
    let quicDueMs = 0;
    while (!this.#stopped) {
      try {
        this.#wait(quicDueMs);
        const nowMs = performance.now();
        if (nowMs >= quicDueMs) turn.onTimeout();
        this.timers.runDue(nowMs);
        turn.endTurn();
        const timeoutMs = turn.timeoutMs();
        quicDueMs = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
      } catch (error) {
        turn.recover(error);
        quicDueMs = 0;
      }
    }
  }

  #wait(quicDueMs: number): void {
    const nowMs = performance.now();
    const waitMs = Math.max(0, Math.min(this.timers.untilNextMs(nowMs), quicDueMs - nowMs));
    const ready = this.#poller.wait(Number.isFinite(waitMs) ? waitMs : -1);
    if (ready > 0 && this.#poller.isReadable(this.#wakeSlot) && this.#wake.drain()) this.#woken = true;
    if (this.#woken) {
      this.#onWake();
      this.#woken = false;
    }
    if (ready > 0) this.#drainSources();
  }

  #drainSources(): void {
    for (const { slot, source } of this.#sources.values()) {
      if (this.#poller.isWritable(slot)) source.writable?.();
      if (this.#poller.isReadable(slot)) source.drain();
    }
  }
}
