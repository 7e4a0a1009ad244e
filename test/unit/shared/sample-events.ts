import type { EventType, VpnEvent } from '../../../shared/events/envelope.ts';
import { currentVersion } from '../../../shared/events/event-versions.ts';
import { columnsOf } from '../../../shared/events/traffic-columns.ts';

const id = 'ab'.repeat(16);
const connectionId = '0b1f7a52-54c0-4e0c-8a59-3f0d1a2b3c4d';
const at = '2026-01-02T03:04:05.678Z';
const totals = { bytesIn: 1, bytesOut: 2, packetsIn: 3, packetsOut: 4 };
const held = { connectionId, clientId: 'c1', address: '10.99.0.7', block: '10.99.0.0/26', pool: '10.99.0.0/16' };
const lease = { block: '10.99.0.0/26', pool: '10.99.0.0/16', node: 'node-a' };
const pool = { name: 'office', prefixes: ['10.98.0.0/16', 'fd00:98::/64'], blockPrefixV4: 26, blockPrefixV6: 120 };

/** One good event of each type. */
export const samples: { [K in VpnEvent['type']]: object } = {
  'node.started': { softwareVersion: '0.1.0', listen: '0.0.0.0:4433', tunnelMtu: 1400 },
  'node.draining': { reason: 'asked to stop' },
  'node.stopped': { reason: 'asked to stop' },
  'connection.established': {
    connectionId,
    clientId: 'c1',
    remoteAddress: '2001:db8::1',
    remotePort: 5,
    transport: 'http3',
    tunnelMtu: 1400,
  },
  'connection.failed': {
    remoteAddress: '192.0.2.1',
    clientId: null,
    status: 401,
    reason: 'unknown or revoked token',
    errorType: 'auth',
    count: 1,
  },
  'connection.closed': { connectionId, clientId: 'c1', reason: 'idle', detail: '', durationMs: 5, totals },
  'address.assigned': held,
  'address.released': { ...held, reason: 'client' },
  'traffic.sampled': {
    windowStart: at,
    windowEnd: at,
    errors: { packet: 0, other: 0 },
    drops: { source: 3 },
    samples: columnsOf([
      { connectionId, clientId: 'c1', ...totals, rttMs: null, latencyMs: { p50: 1, p95: 2, p99: 3 }, lossPercent: 0 },
    ]),
  },
  'block.granted': { ...lease, leaseEnd: at },
  'block.renewed': { ...lease, leaseEnd: at },
  'block.returned': lease,
  'block.reclaimed': { ...lease, leaseEnd: at },
  'client.enrolled': { clientId: 'c1', name: 'one', pool: 'default', actor: 'admin' },
  'client.updated': { clientId: 'c1', name: 'one', pool: 'default', actor: 'admin' },
  'client.addresses_set': { clientId: 'c1', addresses: ['10.99.0.9'], actor: 'admin' },
  'client.revoked': { clientId: 'c1', actor: 'admin' },
  'pool.added': { ...pool, actor: 'admin' },
  'pool.changed': { ...pool, actor: 'configuration' },
  'pool.retiring': { name: 'office', closeTunnels: false, actor: 'admin' },
  'pool.retired': { name: 'office', actor: 'control-plane' },
  'dead_letter.applied': {
    id: 7,
    node: 'node-a',
    epoch: id,
    seq: 3,
    type: 'node.stopped',
    position: 9,
    actor: 'cli:ada',
  },
  'projections.rebuilt': { from: 0, position: 9, resumed: false, actor: 'cli:ada' },
  'node.lost': { node: 'node-a', incarnation: id, lastSeenAt: null },
  'connection.presumed_closed': { connectionId, clientId: 'c1', node: 'node-a', reason: 'node_lost' },
};

/** An envelope around a sample's data. */
export const envelope = (type: string, data: object, seq = 1) => ({
  node: 'node-a',
  epoch: id,
  seq,
  incarnation: id,
  type,
  version: currentVersion(type as EventType),
  at,
  data,
});
