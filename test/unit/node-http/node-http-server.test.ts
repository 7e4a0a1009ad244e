import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_HANDOFFS } from '../../../data-plane/handoff/handoff.ts';
import { NO_LIMITS_EXCEEDED } from '../../../data-plane/limits.ts';
import { startNodeHttpServer } from '../../../data-plane/node-http/node-http-server.ts';
import { NodeMetrics } from '../../../data-plane/node-http/node-metrics.ts';
import { NO_QUIC_STATE } from '../../../data-plane/quic/quic-server-state.ts';
import { NO_WEB_STATE } from '../../../data-plane/web-thread/web-messages.ts';
import { webTransportCarriers } from '../../../data-plane/webtransport/webtransport-carriers.ts';
import { createLogger } from '../../../shared/log/logger.ts';

const log = createLogger('test', 'silent');

function metrics(): NodeMetrics {
  return new NodeMetrics({
    spool: () => ({ depth: 3, bytes: 400, limits: { events: 1_000, bytes: 2_000 } }),
    publisher: () => ({ acked: 7, repeated: 0, failures: 0, uncommitted: 2 }),
    activeConnections: (transport) => (transport === 'http2' ? 2 : 1),
    blocks: () => [],
    addresses: () => ({ total: 62n, free: 60n }),
    natsConnected: () => true,
    shards: () =>
      [1, 2].map((n) => ({
        tunnels: n,
        quic: { connections: 2 * n },
        handoffs: { ...NO_HANDOFFS, passed: 4 * n },
        cpuSeconds: 3 * n,
      })),
    quic: () => ({
      ...NO_QUIC_STATE,
      handshakes: 2,
      retriesSent: 5,
      tokensRefused: { expired: 1, another_address: 0 },
    }),
    web: () => [
      { ...NO_WEB_STATE, connections: 4, handshakes: 4 },
      { ...NO_WEB_STATE, connections: 2, handshakes: 0 },
    ],
    webTransport: () => webTransportCarriers('0.0.0.0:4433', 'off', null),
    limits: () => ({ ...NO_LIMITS_EXCEEDED, capsule: 3 }),
    drops: () => ({ spoofed: 8 }),
    tls: () => ({ end: new Date('2027-01-01T00:00:00Z'), renewed: 1, refused: 2 }),
  });
}

test('the server answers for its health, names what is not ready, and shows its metrics', async (t) => {
  const missing = ['NATS'];
  const node = metrics();
  const totals = { bytesIn: 100, bytesOut: 50, packetsIn: 2, packetsOut: 1 };
  node.observeTraffic([{ connectionId: 'x', clientId: 'alice', totals }]);
  node.observeTraffic([{ connectionId: 'x', clientId: 'alice', totals: { ...totals, bytesIn: 130 } }]);
  node.forgetConnection('x');
  node.observeTraffic([{ connectionId: 'y', clientId: 'alice', totals }]);
  node.connectionFailed(401);
  node.connectionFailed(429);
  const listen = { host: '127.0.0.1', port: 0 };
  const server = await startNodeHttpServer({ listen, registry: node.registry, notReady: () => missing, log });
  t.after(() => server.close());
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${server.address.port}${path}`);
    return [response.status, await response.text()] as const;
  };
  assert.equal((await get('/healthz'))[0], 200);
  const [status, body] = await get('/readyz');
  assert.deepEqual([status, JSON.parse(body)], [503, { status: 'not ready', notReady: ['NATS'] }]);
  missing.pop();
  assert.equal((await get('/readyz'))[0], 200);
  assert.equal((await get('/nothing'))[0], 404);
  const [, text] = await get('/metrics');
  for (const line of [
    'masque_vpn_node_spool_depth 3',
    'masque_vpn_node_spool_bytes 400',
    'masque_vpn_node_bytes_total{client_id="alice",direction="in"} 230',
    'masque_vpn_node_packets_total{client_id="alice",direction="out"} 2',
    'masque_vpn_node_active_connections{transport="http3"} 1',
    'masque_vpn_node_active_connections{transport="http2"} 2',
    'masque_vpn_node_webtransport{carrier="http3",problem=""} 1',
    'masque_vpn_node_webtransport{carrier="http2",problem="WEBTRANSPORT_LISTEN is off"} 0',
    'masque_vpn_node_http2_connections 6',
    'masque_vpn_node_http2_handshakes 4',
    'masque_vpn_node_drops_total{reason="spoofed"} 8',
    'masque_vpn_node_connections_failed_total{status="401"} 1',
    'masque_vpn_node_published_events_total 7',
    'masque_vpn_node_addresses_free{family="4"} 60',
    'masque_vpn_node_nats_connected 1',
    'masque_vpn_node_limit_exceeded_total{limit="capsule"} 3',
    'masque_vpn_node_limit_exceeded_total{limit="streams"} 0',
    'masque_vpn_node_limit_exceeded_total{limit="tunnels_per_client"} 1',
    'masque_vpn_node_shard_tunnels{shard="0"} 1',
    'masque_vpn_node_shard_quic_connections{shard="1"} 4',
    'masque_vpn_node_shard_handoffs_total{shard="1",event="passed"} 8',
    'masque_vpn_node_shard_cpu_seconds_total{shard="1"} 6',
    'masque_vpn_node_tls_certificate_expiry_timestamp_seconds 1798761600',
    'masque_vpn_node_tls_reloads_total{result="failure"} 2',
    'masque_vpn_node_quic_handshakes 2',
    'masque_vpn_node_quic_retries_sent_total 5',
    'masque_vpn_node_quic_retry_tokens_refused_total{reason="expired"} 1',
  ]) {
    assert.ok(text.includes(`${line}\n`), line);
  }
  await assert.rejects(
    startNodeHttpServer({ listen: server.address, registry: node.registry, notReady: () => [], log }),
    {
      code: 'LISTEN_FAILED',
      message: /the port is in use/,
    },
  );
});
