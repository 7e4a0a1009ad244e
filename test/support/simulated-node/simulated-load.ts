import type { SimulatedNode } from './simulated-node.ts';

/** What a simulated node does by itself. */
export interface SimulatedLoad {
  /** The connections that it keeps open, each of a client in turn; the traffic windows of a moment have all of them. */
  readonly connections: number;
  /** Each writes windows of its own, of every so-and-so-manyth connection; 1 where it is not given. */
  readonly shards?: number;
  /** How fast it gets there, connections a second. */
  readonly opensPerSecond: number;
  /** Once there: the oldest ends and a new one is opened, so many times a second. */
  readonly churnPerSecond: number;
  /** The length of a traffic window; nodes of one process spread over it. */
  readonly windowMs: number;
}

const TICK_MS = 50;

/** Opens and ends connections of a node and writes its windows, at given rates, until it is stopped. */
export class LoadDriver {
  readonly #node: SimulatedNode;
  readonly #load: SimulatedLoad;
  #ticks: NodeJS.Timeout | undefined;
  #windows: NodeJS.Timeout | undefined;
  #lastTickAt = 0;
  /** What the rates have come to and was not done yet, in connections. */
  #due = 0;

  constructor(node: SimulatedNode, load: SimulatedLoad) {
    this.#node = node;
    this.#load = load;
  }

  start(): void {
    this.#lastTickAt = performance.now();
    this.#ticks = setInterval(() => this.#tick(), TICK_MS);
    this.#windows = setTimeout(() => {
      this.#node.writeWindow();
      this.#windows = setInterval(() => this.#node.writeWindow(), this.#load.windowMs);
    }, Math.random() * this.#load.windowMs);
  }

  stop(): void {
    clearInterval(this.#ticks);
    clearInterval(this.#windows);
  }

  #tick(): void {
    const { connections, opensPerSecond, churnPerSecond } = this.#load;
    const now = performance.now();
    const isFull = this.#node.size >= connections;
    const rate = isFull ? churnPerSecond : opensPerSecond;
    // What a frozen or refused node has missed is not made up for.
    this.#due = Math.min(Math.max(1, rate), this.#due + (rate * (now - this.#lastTickAt)) / 1000);
    this.#lastTickAt = now;
    if (!this.#node.isSupplied) return;
    for (; this.#due >= 1; this.#due--) {
      const isReplacement = this.#node.size >= connections;
      if (isReplacement && !isFull) return;
      if (isReplacement) void this.#node.closeOldest();
      void this.#node.open();
    }
  }
}
