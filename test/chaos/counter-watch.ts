import { setTimeout as delay } from 'node:timers/promises';
import { scrape } from '../../deploy/local/http-client.ts';
import type { Sample } from '../../deploy/local/prometheus-text.ts';

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

/** Scrapes all replicas, as Prometheus does, and notes every counter of the cluster that ever goes down. */
export class CounterWatch {
  /** In words, one for each fall. */
  readonly falls: string[] = [];
  /** Scrapes that had the cluster's families. */
  scrapes = 0;
  readonly #seen = new Map<string, Seen>();
  readonly #end = new AbortController();
  readonly #loops: Promise<unknown>;

  constructor(urls: readonly string[]) {
    this.#loops = Promise.all(urls.map((url) => this.#watch(url)));
  }

  async stop(): Promise<void> {
    this.#end.abort();
    await this.#loops;
  }

  async #watch(url: string): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      const askedAt = performance.now();
      // A replica that is down or frozen answers nothing.
      const samples = await scrape(`${url}/metrics`).catch(() => []);
      const counters = samples.filter(isClusterCounter);
      if (counters.length > 0) this.scrapes++;
      for (const counter of counters) this.#take(url, counter, askedAt);
      await delay(SCRAPE_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
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
