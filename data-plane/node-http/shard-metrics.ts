import { Counter, Gauge, type Registry } from 'prom-client';
import type { HandoffCounts } from '../handoff/handoff.ts';

/** What one shard shows of itself. */
export interface ShardFigures {
  /** Tunnels that are open. */
  readonly tunnels: number;
  /** Its QUIC connections, handshakes under way included. */
  readonly quic: { readonly connections: number };
  readonly handoffs: HandoffCounts;
  /** Of its packet thread, since it started: at one second a second a shard is full. */
  readonly cpuSeconds: number;
}

/** Adds the families that tell shards apart; `figures` has one entry for each, and is asked at each scrape. */
export function registerShardMetrics(registry: Registry, figures: () => readonly ShardFigures[]): void {
  const registers = [registry];
  const labelNames = ['shard'] as const;
  const gauge = (name: string, help: string, value: (of: ShardFigures) => number) =>
    new Gauge({
      name: `masque_vpn_node_shard_${name}`,
      help,
      labelNames,
      registers,
      collect() {
        for (const [shard, of] of figures().entries()) this.set({ shard }, value(of));
      },
    });
  gauge('tunnels', 'Tunnels open now, by shard', ({ tunnels }) => tunnels);
  gauge('quic_connections', 'QUIC connections of the shard, handshakes under way included', ({ quic }) => {
    return quic.connections;
  });
  new Counter({
    name: 'masque_vpn_node_shard_handoffs_total',
    help: 'Datagrams that reached another shard than the one with their connection: asked about, passed to it, taken by it, dropped',
    labelNames: ['shard', 'event'],
    registers,
    collect() {
      this.reset();
      for (const [shard, { handoffs }] of figures().entries()) {
        for (const [event, count] of Object.entries(handoffs)) this.inc({ shard, event }, count);
      }
    },
  });
  new Counter({
    name: 'masque_vpn_node_shard_cpu_seconds_total',
    help: "CPU time of the shard's packet thread since it started; one second a second is all that it can have",
    labelNames,
    registers,
    collect() {
      this.reset();
      for (const [shard, { cpuSeconds }] of figures().entries()) this.inc({ shard }, cpuSeconds);
    },
  });
}
