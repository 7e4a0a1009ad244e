import { setTimeout as delay } from 'node:timers/promises';
import { scrape } from '../../deploy/local/http-client.ts';
import type { Sample } from '../../deploy/local/prometheus-text.ts';
import { describeError, errorCode } from '../../shared/errors.ts';

const SCRAPE_INTERVAL_MS = 500;
/** Named as counters are, by the contract, and gauges. */
const GAUGES = new Set(['masque_vpn_active_connections_total', 'masque_vpn_ip_pool_total']);

const isClusterCounter = ({ name }: Sample) =>
  /^masque_vpn_(?!control_|node_).*_(total|bucket|sum|count)$/.test(name) && !GAUGES.has(name);

interface Seen {
  readonly value: number;
  /** When the answer with it had come, monotonic. */
  readonly at: number;
}

/** What a replica that a fault has hold of answers: nothing. */
const UNANSWERED = new Set(['ECONNREFUSED', 'ECONNRESET', 'ABORT_ERR']);

/** Scrapes all replicas, as Prometheus does, and notes every counter of the cluster that ever goes down. */
export class CounterWatch {
  /** In words, one for each fall. */
  readonly falls: string[] = [];
  /** Scrapes that had the cluster's families, while there were faults and after them. */
  readonly scrapes = { disturbed: 0, quiet: 0 };
  /** Scrapes that a replica did not answer while there were faults. */
  unanswered = 0;
  /** In words, one for each other scrape that came to nothing. */
  readonly errors: string[] = [];
  readonly #seen = new Map<string, Seen>();
  readonly #end = new AbortController();
  readonly #urls: readonly string[];
  #loops: Promise<unknown> | undefined;
  #phase: 'disturbed' | 'quiet' = 'disturbed';

  constructor(urls: readonly string[]) {
    this.#urls = urls;
  }

  start(): void {
    this.#loops = Promise.all(this.#urls.map((url) => this.#watch(url)));
  }

  /** All faults are over: from now on every replica answers. */
  expectAnswers(): void {
    this.#phase = 'quiet';
  }

  /** Scrapes once more, and ends. Safe to call twice, and without `start`. */
  async stop(): Promise<void> {
    this.#end.abort();
    await this.#loops;
  }

  async #watch(url: string): Promise<void> {
    const { signal } = this.#end;
    for (let isLast = false; !isLast; ) {
      isLast = signal.aborted;
      await this.#scrape(url);
      if (!isLast) await delay(SCRAPE_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #scrape(url: string): Promise<void> {
    const askedAt = performance.now();
    const phase = this.#phase;
    try {
      const counters = (await scrape(`${url}/metrics`)).filter(isClusterCounter);
      if (counters.length > 0) this.scrapes[phase]++;
      for (const counter of counters) this.#take(url, counter, askedAt);
    } catch (error) {
      if (phase === 'disturbed' && UNANSWERED.has(errorCode(error) ?? '')) this.unanswered++;
      else this.errors.push(`${url}: ${describeError(error)}`);
    }
  }

  #take(url: string, { name, labels, value }: Sample, askedAt: number): void {
    const series = `${name}${JSON.stringify(labels)}`;
    const last = this.#seen.get(series);
    if (last === undefined || value >= last.value) this.#seen.set(series, { value, at: performance.now() });
    // Of two answers that were under way at once, nobody knows which is the later one.
    else if (askedAt > last.at) this.falls.push(`${series} from ${last.value} to ${value} at ${url}`);
  }
}
