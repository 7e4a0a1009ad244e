import { setTimeout as delay } from 'node:timers/promises';
import { httpRequest } from '../../../deploy/local/http-client.ts';
import { parsePrometheusText, type Sample } from '../../../deploy/local/prometheus-text.ts';

const INTERVAL_MS = 250;
/** In every scrape in which the control plane speaks for the cluster. */
const CLUSTER_FAMILY = 'masque_vpn_connections_total';
/** What a process says of itself; that starts anew with it. */
const OWN_PREFIX = 'masque_vpn_control_';

/** Scrapes the control plane all the while, and notes every counter, bucket, sum and count that fell or vanished. */
export class MetricsWatch {
  readonly violations: string[] = [];
  /** Scrapes with the cluster's families in them. */
  scrapes = 0;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #last = new Map<string, number>();

  /** How many counters were seen last. */
  get series(): number {
    return this.#last.size;
  }

  /** Observes from now on, until `stop`. */
  start(controlPlaneUrl: string): this {
    this.#running ??= this.#run(controlPlaneUrl);
    return this;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** One scrape, now. Throws when the control plane does not speak for the cluster. */
  async observe(controlPlaneUrl: string): Promise<Sample[]> {
    const { status, body } = await httpRequest('GET', `${controlPlaneUrl}/metrics`);
    if (status !== 200 || !body.includes(CLUSTER_FAMILY)) throw new Error(`${status} without ${CLUSTER_FAMILY}`);
    const samples = parsePrometheusText(body);
    this.#compare(cumulative(body, samples));
    this.scrapes++;
    return samples;
  }

  async #run(controlPlaneUrl: string): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      // An outage is what the tests are about: no answer is no violation.
      await this.observe(controlPlaneUrl).catch(() => undefined);
      await delay(INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  #compare(now: Map<string, number>): void {
    const at = new Date().toISOString();
    for (const [series, before] of this.#last) {
      const value = now.get(series);
      if (value === undefined) this.violations.push(`${at} ${series}: ${before} -> gone`);
      else if (!(value >= before)) this.violations.push(`${at} ${series}: ${before} -> ${value}`);
    }
    this.#last = now;
  }
}

function cumulative(text: string, samples: readonly Sample[]): Map<string, number> {
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
  const isCumulative = (name: string) =>
    !name.startsWith(OWN_PREFIX) &&
    (types.get(name) === 'counter' || types.get(name.replace(/_(bucket|sum|count)$/, '')) === 'histogram');
  return new Map(
    samples
      .filter(({ name }) => isCumulative(name))
      .map(({ name, labels, value }) => [`${name}${JSON.stringify(labels)}`, value]),
  );
}
