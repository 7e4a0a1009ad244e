import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { CLUSTER_FAMILIES, EXPECTED_LINT, type MetricFamily } from '../../../control-plane/metrics/contract.ts';
import {
  type ClientSample,
  ClusterRenderer,
  type ClusterSnapshot,
} from '../../../control-plane/metrics/render-cluster.ts';
import { needsBinary } from '../../support/requirements.ts';
import { parseExposition } from './parse-exposition.ts';

const BOUNDS = { latency: [1, 10, 100], duration: [60, 3600] };
const HISTOGRAM = { counts: [1, 2, 0, 4], sum: 512.5 };

function client(clientId: string, changes: Partial<ClientSample> = {}): ClientSample {
  return {
    clientId,
    bytesSent: '9007199254740993',
    bytesReceived: 2,
    packetsSent: 3,
    packetsReceived: 4,
    latency: { '0.5': HISTOGRAM, '0.95': HISTOGRAM, '0.99': HISTOGRAM },
    duration: { counts: [0, 1, 1], sum: 4000 },
    rttMs: 12.5,
    throughputInMbps: 1.5,
    throughputOutMbps: 80,
    lossPercent: 0,
    ...changes,
  };
}

function snapshot(clients: readonly ClientSample[]): ClusterSnapshot {
  return {
    activeConnections: 2,
    connections: { established: 5, failed: 0, closed: 3 },
    errors: { connection: 1, packet: 0, auth: 2, other: 0 },
    pool: { total: 200, used: 50 },
    bounds: BOUNDS,
    clients,
  };
}

const families: readonly MetricFamily[] = Object.values(CLUSTER_FAMILIES);

test('the output has exactly the 15 families of the contract, with their types and labels', () => {
  const parsed = parseExposition(new ClusterRenderer().render(snapshot([client('alice'), client('bob')])));
  assert.equal(families.length, 15);
  assert.deepEqual([...parsed.keys()].sort(), families.map(({ name }) => name).sort());
  for (const { name, type, help, labels } of families) {
    const family = parsed.get(name);
    assert.ok(family && family.samples.length > 0, `${name} has samples`);
    assert.equal(family.type, type, name);
    assert.equal(family.help, help, name);
    for (const sample of family.samples) {
      const own = Object.keys(sample.labels).filter((label) => label !== 'le');
      assert.deepEqual(own, Object.keys(labels), sample.name);
      for (const [label, values] of Object.entries(labels)) {
        if (values !== 'client_id') assert.ok(values.includes(sample.labels[label] ?? ''), `${name} ${label}`);
      }
    }
    for (const [label, values] of Object.entries(labels)) {
      if (values === 'client_id') continue;
      const seen: Set<string | undefined> = new Set(family.samples.map((sample) => sample.labels[label]));
      assert.deepEqual([...seen], [...values], `${name} shows every ${label}`);
    }
  }
});

test('before anything has happened all families, statuses and error types are there', () => {
  const parsed = parseExposition(new ClusterRenderer().render(snapshot([])));
  assert.equal(parsed.size, 15);
  assert.equal(parsed.get(CLUSTER_FAMILIES.connections.name)?.samples.length, 3);
  assert.equal(parsed.get(CLUSTER_FAMILIES.errors.name)?.samples.length, 4);
});

test('values are those of the snapshot, counters beyond 2^53 to the last digit', () => {
  const text = new ClusterRenderer().render(snapshot([client('alice')]));
  for (const line of [
    'masque_vpn_active_connections_total 2',
    'masque_vpn_connections_total{status="failed"} 0',
    'masque_vpn_bytes_sent_total{client_id="alice"} 9007199254740993',
    'masque_vpn_latency_ms_bucket{client_id="alice",quantile="0.95",le="10"} 3',
    'masque_vpn_latency_ms_bucket{client_id="alice",quantile="0.95",le="+Inf"} 7',
    'masque_vpn_latency_ms_sum{client_id="alice",quantile="0.95"} 512.5',
    'masque_vpn_latency_ms_count{client_id="alice",quantile="0.95"} 7',
    'masque_vpn_connection_duration_seconds_count{client_id="alice"} 2',
    'masque_vpn_throughput_mbps{client_id="alice",direction="out"} 80',
    'masque_vpn_ip_pool_usage_percent 25',
    'masque_vpn_ip_pool_available 150',
    'masque_vpn_ip_pool_total 200',
    'masque_vpn_errors_total{type="auth"} 2',
  ]) {
    assert.ok(text.split('\n').includes(line), line);
  }
});

test('a client without fresh windows has counters but no gauges', () => {
  const gone = client('alice', { rttMs: null, throughputInMbps: null, throughputOutMbps: null, lossPercent: null });
  const parsed = parseExposition(new ClusterRenderer().render(snapshot([gone])));
  for (const { name } of [CLUSTER_FAMILIES.rtt, CLUSTER_FAMILIES.throughput, CLUSTER_FAMILIES.packetLoss]) {
    assert.deepEqual(parsed.get(name)?.samples, []);
  }
  assert.equal(parsed.get(CLUSTER_FAMILIES.bytesSent.name)?.samples.length, 1);
});

test('label values are escaped', () => {
  const id = 'a"b\\c\nd';
  const parsed = parseExposition(new ClusterRenderer().render(snapshot([client(id)])));
  assert.equal(parsed.get(CLUSTER_FAMILIES.bytesSent.name)?.samples[0]?.labels.client_id, id);
});

test('promtool accepts the output but for the names that are the contract', {
  skip: needsBinary('promtool', 'prometheus'),
}, () => {
  const input = new ClusterRenderer().render(snapshot([client('alice'), client('_other', { rttMs: null })]));
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' });
  // One line a series, so the same line comes several times.
  const lines = new Set(`${stdout}${stderr}`.split('\n').filter((line) => line !== ''));
  assert.deepEqual([...lines].sort(), [...EXPECTED_LINT].sort());
});

test('10,000 clients are rendered', (t) => {
  const renderer = new ClusterRenderer();
  const clients = Array.from({ length: 10_000 }, (_, i) => client(`client-${i}`));
  const durations = [1, 2, 3].map(() => {
    const startedAt = performance.now();
    const text = renderer.render(snapshot(clients));
    return { ms: Math.round(performance.now() - startedAt), series: text.split('\n').length };
  });
  t.diagnostic(
    `${durations[0]?.series} lines; first ${durations[0]?.ms} ms, then ${durations[1]?.ms} and ${durations[2]?.ms} ms`,
  );
});
