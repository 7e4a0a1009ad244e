import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scrape } from '../../../deploy/local/http-client.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { WebTransportPeer } from '../../support/webtransport-peer.ts';
import { enrol, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const PORT = 4434;

test('x', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const nodeEnv = { WEBTRANSPORT_LISTEN: `0.0.0.0:${PORT}`, TRAFFIC_WINDOW_MS: '1000' };
  const cluster = await startOneNode({ directory, clients: [], nodeEnv });
  t.after(() => cluster.stop());
  const token = await enrol(cluster, 'program');
  const { ca, server } = targetOf(cluster);
  const target = { ca, server: server.replace(/\d+$/, String(PORT)) };
  const refused = await WebTransportPeer.request(target, 'wrong');
  console.log(refused.status, refused.fields);
  const tunnel = await WebTransportPeer.request(target, token);
  await tunnel.until(() => tunnel.assigned.length > 0 && tunnel.routes.length > 0, 'x');
  console.log(tunnel.addresses, tunnel.routes, tunnel.fields);
  console.log(
    (await scrape(cluster.node('node-a').metricsUrl)).filter(({ name }) => /webtransport|http2|active_conn/.test(name)),
  );
  tunnel.endContent();
  await tunnel.until(() => tunnel.closeCode !== undefined, 'end');
  console.log(tunnel.closeCode, await cluster.sql('select * from connections'));
  await cluster.node('node-a').service.stop();
});
