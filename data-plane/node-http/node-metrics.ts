import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Transport } from '../../shared/events/node-events.ts';
import type { AddressFamily } from '../../shared/ip/address.ts';
import type { AddressCount } from '../address/address-book.ts';
import type { Limit } from '../limits.ts';
import type { QuicServerState } from '../quic/quic-server-state.ts';
import type { PublisherStats } from '../telemetry/publisher.ts';
import type { Spool } from '../telemetry/spool.ts';
import type { ConnectionSnapshot } from '../telemetry/traffic-windows.ts';
import type { TlsReloaderState } from '../tls/tls-reloader.ts';
import type { WebState } from '../web-thread/web-messages.ts';
import type { WebTransportCarrier } from '../webtransport/webtransport-carriers.ts';
import { registerShardMetrics, type ShardFigures } from './shard-metrics.ts';

/** Where the values come from; asked at each scrape. */
export interface NodeMetricsSources {
  readonly spool: () => Pick<Spool, 'depth' | 'bytes' | 'limits'>;
  readonly publisher: () => PublisherStats;
  readonly activeConnections: (transport: Transport) => number;
  readonly blocks: () => readonly { readonly block: { readonly address: { readonly family: AddressFamily } } }[];
  readonly addresses: (family: AddressFamily) => AddressCount;
  readonly natsConnected: () => boolean;
  readonly quic: () => QuicServerState;
  readonly shards: () => readonly ShardFigures[];
  /** Of each web thread. */
  readonly web: () => readonly WebState[];
  readonly webTransport: () => readonly WebTransportCarrier[];
  readonly tls: () => TlsReloaderState;
  readonly limits: () => Record<Limit, number>;
  /** Packets dropped, by reason. */
  readonly drops: () => Readonly<Record<string, number>>;
}

const FAMILIES: readonly AddressFamily[] = [4, 6];
const TRANSPORTS: readonly Transport[] = ['http3', 'http2', 'webtransport'];
/** Ours: beyond this many clients the rest share one label, so that a scrape stays small. */
const MAX_CLIENT_SERIES = 5_000;
const OTHER_CLIENTS = '_other';
/** The status for a client that has as many tunnels as it may have. */
const TOO_MANY_REQUESTS = 429;

/** The node's own metrics: of this process since its start. The cluster's are the control plane's. */
export class NodeMetrics {
  readonly registry = new Registry();
  readonly #bytes: Counter<'client_id' | 'direction'>;
  readonly #packets: Counter<'client_id' | 'direction'>;
  readonly #failed: Counter<'status'>;
  #tunnelsRefused = 0;
  readonly #clients = new Set<string>();
  readonly #counted = new Map<string, ConnectionSnapshot['totals']>();

  constructor(sources: NodeMetricsSources) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    registerShardMetrics(this.registry, sources.shards);
    const client = ['client_id', 'direction'] as const;
    this.#bytes = new Counter({
      name: 'masque_vpn_node_bytes_total',
      help: 'Bytes of inner IP packets; direction in is from the client, out to it',
      labelNames: client,
      registers,
    });
    this.#packets = new Counter({
      name: 'masque_vpn_node_packets_total',
      help: 'Inner IP packets; direction in is from the client, out to it',
      labelNames: client,
      registers,
    });
    this.#failed = new Counter({
      name: 'masque_vpn_node_connections_failed_total',
      help: 'Connections refused or broken before they were established, by HTTP status (0: before there was one)',
      labelNames: ['status'],
      registers,
    });
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name: `masque_vpn_node_${name}`,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    const webSum = (figure: 'connections' | 'handshakes') =>
      sources.web().reduce((sum, state) => sum + state[figure], 0);
    gauge(
      'spool_depth',
      'Events in the spool: those that are not known to be committed, and some that were committed just now',
      () => sources.spool().depth,
    );
    gauge('spool_bytes', 'Bytes of those events', () => sources.spool().bytes);
    gauge('spool_max_events', 'How many there may be: SPOOL_MAX_EVENTS', () => sources.spool().limits.events);
    gauge('spool_max_bytes', 'How many bytes there may be: SPOOL_MAX_BYTES', () => sources.spool().limits.bytes);
    new Gauge({
      name: 'masque_vpn_node_active_connections',
      help: 'Tunnels open now, by what carries them',
      labelNames: ['transport'],
      registers,
      collect() {
        for (const transport of TRANSPORTS) this.set({ transport }, sources.activeConnections(transport));
      },
    });
    new Gauge({
      name: 'masque_vpn_node_webtransport',
      help: '1 for what carries WebTransport sessions here, 0 with the problem for what does not',
      labelNames: ['carrier', 'problem'],
      registers,
      collect() {
        this.reset();
        for (const { carrier, problem } of sources.webTransport()) {
          this.set({ carrier, problem: problem ?? '' }, problem === null ? 1 : 0);
        }
      },
    });
    gauge('nats_connected', '1 while NATS is reachable', () => (sources.natsConnected() ? 1 : 0));
    gauge(
      'uncommitted_events',
      'Events published and not known to be committed',
      () => sources.publisher().uncommitted,
    );
    gauge('tls_certificate_expiry_timestamp_seconds', 'When the certificate in use ends, Unix time', () => {
      return sources.tls().end.getTime() / 1_000;
    });
    gauge('quic_connections', 'QUIC connections, handshakes under way included', () => sources.quic().connections);
    gauge('quic_handshakes', 'QUIC handshakes in flight', () => sources.quic().handshakes);
    gauge('quic_cores', 'QUIC cores', () => sources.quic().cores);
    gauge('quic_memory_bytes', 'Memory held by the QUIC cores', () => sources.quic().memoryBytes);
    gauge('quic_aborted_cores', 'QUIC cores that aborted since the start', () => sources.quic().abortedCores);
    gauge('http2_connections', 'TCP connections for HTTP/2, handshakes under way included', () =>
      webSum('connections'),
    );
    gauge('http2_handshakes', 'TLS handshakes of HTTP/2 in flight', () => webSum('handshakes'));
    const byFamily = (name: string, help: string, value: (family: AddressFamily) => number) =>
      new Gauge({
        name: `masque_vpn_node_${name}`,
        help,
        labelNames: ['family'],
        registers,
        collect() {
          for (const family of FAMILIES) this.set({ family: String(family) }, value(family));
        },
      });
    byFamily('blocks', 'Address blocks in use', (family) => {
      return sources.blocks().filter(({ block }) => block.address.family === family).length;
    });
    byFamily('addresses', 'Addresses that can be handed out', (family) => Number(sources.addresses(family).total));
    byFamily('addresses_free', 'Addresses neither assigned nor resting', (family) =>
      Number(sources.addresses(family).free),
    );
    const counter = (name: string, help: string, value: () => number) =>
      new Counter({
        name: `masque_vpn_node_${name}`,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(value());
        },
      });
    const { publisher, quic } = sources;
    counter('published_events_total', 'Events acknowledged by the stream, repeats included', () => publisher().acked);
    counter('repeated_events_total', 'Events published again', () => publisher().repeated);
    counter('publish_failures_total', 'Publishes that failed', () => publisher().failures);
    counter(
      'quic_retries_sent_total',
      'Retry packets: new clients that were asked to show that they receive at their address',
      () => quic().retriesSent,
    );
    counter(
      'quic_versions_negotiated_total',
      'Version Negotiation packets: answers to packets of unknown QUIC versions',
      () => quic().versionsNegotiated,
    );
    const counterBy = <L extends string>(name: string, help: string, label: L, values: () => Record<string, number>) =>
      new Counter({
        name: `masque_vpn_node_${name}`,
        help,
        labelNames: [label],
        registers,
        collect() {
          this.reset();
          for (const [value, count] of Object.entries(values()))
            this.inc({ [label]: value } as Record<L, string>, count);
        },
      });
    counterBy(
      'quic_retry_tokens_refused_total',
      'First packets dropped because their Retry token had expired or was made for another address',
      'reason',
      () => ({ ...quic().tokensRefused }),
    );
    counterBy('drops_total', 'Packets dropped, by reason', 'reason', sources.drops);
    counterBy('limit_exceeded_total', 'Times that a peer wanted more than there is for it', 'limit', () => ({
      ...sources.limits(),
      tunnels_per_client: this.#tunnelsRefused,
    }));
    counterBy(
      'tls_reloads_total',
      'Times that the certificate on disk had changed: taken into use, or not usable and left alone',
      'result',
      () => ({ success: sources.tls().renewed, failure: sources.tls().refused }),
    );
  }

  /** The totals of open connections, and of one that closes (its last). */
  observeTraffic(snapshots: readonly Pick<ConnectionSnapshot, 'connectionId' | 'clientId' | 'totals'>[]): void {
    for (const { connectionId, clientId, totals } of snapshots) {
      const before = this.#counted.get(connectionId);
      const client_id = this.#label(clientId);
      const add = (counter: Counter<'client_id' | 'direction'>, direction: string, now: number, then = 0) =>
        counter.inc({ client_id, direction }, Math.max(0, now - then));
      add(this.#bytes, 'in', totals.bytesIn, before?.bytesIn);
      add(this.#bytes, 'out', totals.bytesOut, before?.bytesOut);
      add(this.#packets, 'in', totals.packetsIn, before?.packetsIn);
      add(this.#packets, 'out', totals.packetsOut, before?.packetsOut);
      this.#counted.set(connectionId, totals);
    }
  }

  /** After the last `observeTraffic` of a connection. */
  forgetConnection(connectionId: string): void {
    this.#counted.delete(connectionId);
  }

  connectionFailed(status: number, count = 1): void {
    this.#failed.inc({ status: String(status) }, count);
    if (status === TOO_MANY_REQUESTS) this.#tunnelsRefused += count;
  }

  #label(clientId: string): string {
    if (this.#clients.has(clientId)) return clientId;
    if (this.#clients.size >= MAX_CLIENT_SERIES) return OTHER_CLIENTS;
    this.#clients.add(clientId);
    return clientId;
  }
}
