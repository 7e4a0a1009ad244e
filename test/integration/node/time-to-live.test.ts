import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { hasIpv6, inNamespace } from '../../../deploy/local/netns-topology.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { startOneNode } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const FIRST_TTL = 64;

test('item 29 the node is one hop: the TTL falls by one there, and what expires there is answered by it', {
  skip,
}, async (t) => {
  const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['client-1'] });
  t.after(() => cluster.stop());
  const { behind } = cluster.node('node-a').place;
  const { namespace } = cluster.client('client-1').place;
  for (const [address, node] of [
    [behind.address, /From 10\.99\.\S+ .*Time to live exceeded/],
    [behind.address6, /From fd00:99:\S+ .*Time exceeded: Hop limit/],
  ] as const) {
    if (address.includes(':') && !hasIpv6()) continue;
    assert.match(await ping(namespace, address, FIRST_TTL), new RegExp(`ttl=${FIRST_TTL - 1} `));
    assert.match(await ping(namespace, address, 1), node);
    assert.match(await ping(namespace, address, 2), / 0% packet loss/);
  }
  // With options the header is longer, and what every hop notes in them changes its checksum.
  assert.match(await ping(namespace, behind.address, FIRST_TTL, '-R'), /RR:.* 0% packet loss/s);
});

/** What one ping says; it exits with 1 where no answer came. */
function ping(namespace: string, address: string, ttl: number, ...more: string[]): Promise<string> {
  const options = ['-n', '-c', '1', '-W', '5', '-t', String(ttl), ...more, address];
  const [command, args] = inNamespace(namespace, 'ping', options);
  return new Promise((resolve) => execFile(command, args, (_error, stdout) => resolve(stdout)));
}
