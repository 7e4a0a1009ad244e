import assert from 'node:assert/strict';
import { LIMITS, type Limit, NO_LIMITS_EXCEEDED } from '../../../data-plane/limits.ts';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import type { PeerTarget } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type Errors, errorsOf, nodeMetrics, Pinging, startOneNode, targetOf, untilErrors } from './node-setup.ts';

const TIMEOUT_MS = 20_000;
const STEADY = 'steady';

export interface WatchedNodeOptions {
  /** Enrolled, and without a tunnel until a test opens one. */
  readonly clients: readonly string[];
  readonly nodeEnv?: Readonly<Record<string, string>>;
}

/**
 * A node with a client, `steady`, that pings through it while a test does to the node what it likes. What that must leave in the metrics, each
 * test adds: no more and no less may be there.
 */
export class WatchedNode {
  readonly cluster: Cluster;
  readonly target: PeerTarget;
  readonly #pinging: Pinging;
  readonly #removeDirectory: () => void;
  readonly #limits: Record<Limit, number> = { ...NO_LIMITS_EXCEEDED };
  #errors: Errors;

  private constructor(cluster: Cluster, errors: Errors, removeDirectory: () => void) {
    this.cluster = cluster;
    this.target = targetOf(cluster);
    this.#errors = errors;
    this.#removeDirectory = removeDirectory;
    this.#pinging = new Pinging(cluster.client(STEADY).place.namespace, this.behind.address);
  }

  static async start({ clients, nodeEnv }: WatchedNodeOptions): Promise<WatchedNode> {
    let removeDirectory = () => {};
    const directory = temporaryDirectory({
      after: (remove) => {
        removeDirectory = remove;
      },
    });
    try {
      const cluster = await startOneNode({
        directory,
        clients: [STEADY, ...clients],
        connect: [STEADY],
        nodeEnv: { TRAFFIC_WINDOW_MS: '1000', ...nodeEnv },
      });
      return new WatchedNode(cluster, await errorsOf(cluster), removeDirectory);
    } catch (error) {
      removeDirectory();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.cluster.stop();
    this.#removeDirectory();
  }

  /** The server behind the node. */
  get behind() {
    return this.cluster.node('node-a').place.behind;
  }

  token(clientId: string): string {
    return this.cluster.client(clientId).token;
  }

  /** The sum of a metric of the node, without the `masque_vpn_node_` of its name. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    return sumOf(await nodeMetrics(this.cluster), `masque_vpn_node_${name}`, labels);
  }

  async untilMetric(name: string, value: number, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    let last = Number.NaN;
    const probe = async () => {
      last = await this.metric(name, labels);
      return last === value;
    };
    await waitFor(probe, { timeoutMs: TIMEOUT_MS, what: `${value} ${name}` }).catch((cause) => {
      throw new Error(`${name} is ${last}, not ${value}`, { cause });
    });
  }

  /** What the errors are, all together. */
  get errors(): Errors {
    return this.#errors;
  }

  /** Waits until so many errors more are in the metrics. */
  async expectErrors(more: Partial<Errors>): Promise<void> {
    const { auth, connection, packet, other } = this.#errors;
    const { auth: a = 0, connection: c = 0, packet: p = 0, other: o = 0 } = more;
    this.#errors = { auth: auth + a, connection: connection + c, packet: packet + p, other: other + o };
    await untilErrors(this.cluster, this.#errors);
  }

  /** Takes the errors as they are: the test cannot know how many it has made. */
  async acceptErrors(): Promise<void> {
    this.#errors = await errorsOf(this.cluster);
  }

  /** Waits until limits are exceeded so many times more in the metrics, and no others. */
  async expectExceeded(more: Partial<Record<Limit, number>>): Promise<void> {
    for (const limit of LIMITS) this.#limits[limit] += more[limit] ?? 0;
    const seen = { ...NO_LIMITS_EXCEEDED };
    const probe = async () => {
      const samples = await nodeMetrics(this.cluster);
      for (const limit of LIMITS) seen[limit] = sumOf(samples, 'masque_vpn_node_limit_exceeded_total', { limit });
      return LIMITS.every((limit) => seen[limit] === this.#limits[limit]);
    };
    const what = `limits exceeded: ${JSON.stringify(more)}`;
    await waitFor(probe, { timeoutMs: TIMEOUT_MS, what }).catch((cause) => {
      assert.deepEqual(seen, this.#limits);
      throw cause;
    });
  }

  /** Ends the pings: the client has lost no packet, and never connected again. */
  async assertUndisturbed(): Promise<void> {
    const { sent, received } = await this.#pinging.stop();
    assert.ok(sent > 20, `${sent} pings`);
    assert.ok(sent - received <= 1, `${received} of ${sent} pings came back`);
    const status = this.cluster.client(STEADY).status();
    assert.deepEqual([status?.state, status?.connects, status?.lastError], ['connected', 1, null]);
    assert.equal(this.cluster.node('node-a').service.running(), true);
  }
}
