import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Http2Peer } from '../../support/http2-peer.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CountingPeer } from './counting-peer.ts';
import { WatchedNode } from './watched-node.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 20_000;

suite('a node whose web thread fails', { skip }, () => {
  let node: WatchedNode;
  let failFile = '';
  let removeDirectory = () => {};

  before(async () => {
    const directory = temporaryDirectory({
      after: (remove) => {
        removeDirectory = remove;
      },
    });
    failFile = join(directory, 'fail-web-thread');
    const nodeEnv = {
      NODE_OPTIONS: `--import=${import.meta.resolve('./fail-web-thread.ts')}`,
      FAIL_WEB_THREAD: failFile,
    };
    node = await WatchedNode.start({ clients: ['tester'], nodeEnv });
  });

  after(async () => {
    await node?.stop();
    removeDirectory();
  });

  test('starts it again: its clients come back, no counter falls, and all is on record', async () => {
    const token = node.token('tester');
    const { peer, tunnel } = await Http2Peer.open(node.target, token);
    assert.equal((await peer.request(token, { 'x-padding': 'x'.repeat(20_000) })).status, 431);
    await node.expectExceeded({ request_head: 1 });
    await new CountingPeer('tester', tunnel).ping(node.behind.address, 3);

    writeFileSync(failFile, '');
    await peer.until(() => peer.closed, 'the end of the thread');
    assert.equal(existsSync(failFile), false);
    await node.untilMetric('active_connections', 0, { transport: 'http2' });

    const next = await waitFor(() => Http2Peer.open(node.target, token).catch(() => undefined), {
      timeoutMs: TIMEOUT_MS,
      what: 'a tunnel of the next thread',
    });
    await new CountingPeer('tester', next.tunnel).ping(node.behind.address, 3);
    await node.expectExceeded({});
    assert.equal((await next.peer.request(token, { 'x-padding': 'x'.repeat(20_000) })).status, 431);
    await node.expectExceeded({ request_head: 1 });
    next.peer.close();

    const ended = () =>
      node.cluster.sql<{ reason: string; detail: string; packets_in: string }>(
        `SELECT reason, detail, packets_in FROM connections WHERE client_id = 'tester' AND state = 'closed' ORDER BY established_at`,
      );
    await waitFor(async () => (await ended()).length === 2, { timeoutMs: TIMEOUT_MS, what: 'the ends on record' });
    const [first, second] = await ended();
    assert.deepEqual([first?.reason, first?.detail, Number(first?.packets_in)], ['error', 'the web thread failed', 3]);
    assert.equal(second?.reason, 'client');
  });

  test('and no client of HTTP/3 notices', () => node.assertUndisturbed());
});
