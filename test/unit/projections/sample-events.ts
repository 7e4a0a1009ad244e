import { randomBytes, randomUUID } from 'node:crypto';
import type { EventData, EventType, VpnEvent } from '../../../shared/events/envelope.ts';
import { currentVersion } from '../../../shared/events/event-versions.ts';
import { columnsOf, type TrafficSample, type TrafficTotals } from '../../../shared/events/traffic-columns.ts';

export const randomId = (): string => randomBytes(16).toString('hex');

/** Monday, noon: times in tests are seconds from here. */
const EPOCH_MS = Date.parse('2026-03-02T12:00:00.000Z');
export const at = (seconds: number): string => new Date(EPOCH_MS + seconds * 1000).toISOString();

/** Writes events as a node with one spool does: numbered, and with the identity of its present process. */
export class SampleNode {
  readonly node: string;
  epoch = randomId();
  incarnation = randomId();
  private seq = 0;

  constructor(node: string) {
    this.node = node;
  }

  event<T extends EventType>(type: T, seconds: number, data: EventData<T>): VpnEvent {
    this.seq += 1;
    const { node, epoch, incarnation, seq } = this;
    return { node, epoch, seq, incarnation, type, version: currentVersion(type), at: at(seconds), data } as VpnEvent;
  }

  /** The process starts (again). */
  started(seconds: number): VpnEvent {
    this.incarnation = randomId();
    return this.event('node.started', seconds, { softwareVersion: 'test', listen: '0.0.0.0:4433', tunnelMtu: 1400 });
  }

  /** The state directory is lost: a new spool, from 1. */
  loseSpool(): void {
    this.epoch = randomId();
    this.seq = 0;
  }
}

export interface SampleConnection {
  readonly connectionId: string;
  readonly clientId: string;
}

export const connectionOf = (clientId: string): SampleConnection => ({ connectionId: randomUUID(), clientId });

export const established = (node: SampleNode, connection: SampleConnection, seconds: number): VpnEvent =>
  node.event('connection.established', seconds, {
    ...connection,
    remoteAddress: '192.0.2.7',
    remotePort: 50_000,
    transport: 'http3',
    tunnelMtu: 1400,
  });

export const totals = (bytesIn: number, bytesOut: number): TrafficTotals => ({
  bytesIn,
  bytesOut,
  packetsIn: Math.ceil(bytesIn / 1000),
  packetsOut: Math.ceil(bytesOut / 1000),
});

export const closed = (
  node: SampleNode,
  connection: SampleConnection,
  seconds: number,
  traffic: TrafficTotals,
  durationSeconds = 10,
): VpnEvent =>
  node.event('connection.closed', seconds, {
    ...connection,
    reason: 'client',
    detail: 'the client ended it',
    durationMs: durationSeconds * 1000,
    totals: traffic,
  });

export const sampled = (
  node: SampleNode,
  seconds: number,
  samples: ReadonlyArray<SampleConnection & { traffic: TrafficTotals } & Partial<TrafficSample>>,
  errors = { packet: 0, other: 0 },
): VpnEvent =>
  node.event('traffic.sampled', seconds, {
    windowStart: at(seconds - 5),
    windowEnd: at(seconds),
    errors,
    drops: {},
    samples: columnsOf(
      samples.map(({ connectionId, clientId, traffic, rttMs, latencyMs, lossPercent }) => ({
        connectionId,
        clientId,
        ...traffic,
        rttMs: rttMs ?? null,
        latencyMs: latencyMs ?? null,
        lossPercent: lossPercent ?? null,
      })),
    ),
  });

export const BLOCK = { block: '10.99.3.0/26', pool: '10.99.0.0/16' };

export const assigned = (node: SampleNode, connection: SampleConnection, seconds: number, address = '10.99.3.7') =>
  node.event('address.assigned', seconds, { ...connection, address, ...BLOCK });

export const released = (node: SampleNode, connection: SampleConnection, seconds: number, address = '10.99.3.7') =>
  node.event('address.released', seconds, { ...connection, address, ...BLOCK, reason: 'client' });
