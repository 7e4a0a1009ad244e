import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { httpRequest } from '../../../deploy/local/http-client.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { RefusedError, TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;

test('a new node waits for NATS and its client for the node: one line each, no secret, and then all is well', {
  skip,
}, async (t) => {
  const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['early'], connect: [] });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const client = cluster.client('early');
  await node.service.stop();
  await cluster.nats().stop();
  // What a node remembers would make it ready at once.
  const state = join(cluster.directory, 'nodes', 'node-a', 'state');
  rmSync(state, { recursive: true });
  mkdirSync(state, { mode: 0o700 });
  const linesBefore = readFileSync(node.service.logFile, 'utf8').split('\n').length;

  await client.service.launch();
  await waitFor(() => client.status()?.lastError, { timeoutMs: TIMEOUT_MS, what: 'a first attempt of the client' });
  await node.service.launch();
  const answer = async (path: string) => httpRequest('GET', `${node.httpUrl}${path}`);
  const notReady = await waitFor(
    async () => {
      const { status, body } = await answer('/readyz');
      const { notReady: pieces } = JSON.parse(body) as { notReady: string[] };
      return status === 503 && !pieces.includes('packet thread') && pieces;
    },
    { timeoutMs: TIMEOUT_MS, what: 'a node that lives and is not ready' },
  );
  assert.deepEqual(notReady, ['credentials', 'address blocks']);
  assert.equal((await answer('/healthz')).status, 200);
  // It cannot tell a good token from a bad one, so nobody is called a stranger.
  await assert.rejects(
    TestPeer.open(targetOf(cluster), client.token),
    (error) => error instanceof RefusedError && error.status === 503,
  );
  const warnings = () =>
    readFileSync(node.service.logFile, 'utf8')
      .split('\n')
      .slice(linesBefore - 1)
      .filter((line) => line.includes('"level":40') || line.includes('"level":50'));
  await waitFor(() => warnings().length > 0, { timeoutMs: TIMEOUT_MS, what: 'a warning about NATS' });
  assert.equal(warnings().length, 1, warnings().join('\n'));
  assert.match(warnings()[0] ?? '', /NATS is not reachable, retrying/);
  assert.ok(!warnings()[0]?.includes(new URL(cluster.nats().nodeUrl('node-a')).password));
  assert.equal(client.service.running(), true);
  assert.equal(client.status()?.state, 'connecting');

  await cluster.restartNats();
  await node.service.untilReady();
  await client.service.untilReady();
  assert.equal(client.status()?.lastError, null);
  await waitFor(async () => (await cluster.sql('SELECT 1 FROM connections WHERE state = $1', ['open'])).length === 1, {
    timeoutMs: TIMEOUT_MS,
    what: 'the connection in SQL',
  });
});
