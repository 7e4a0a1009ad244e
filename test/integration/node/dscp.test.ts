import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inNamespace } from '../../../deploy/local/netns-topology.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { startOneNode } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const CHILD = fileURLToPath(new URL('./dscp-child.ts', import.meta.url));
const ICMP = 1;
const UDP = 17;
const EXPEDITED = 46;
const PINGS = 20;

test('item 35 the DSCP of what is in the tunnel arrives with it, and is not seen from outside', { skip }, async (t) => {
  const cluster = await startOneNode({ directory: temporaryDirectory(t), clients: ['client-1'] });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a').place;
  const client = cluster.client('client-1').place;
  const [inner, up, down] = await Promise.all([
    watch(t, node.behind.namespace, ICMP),
    watch(t, node.namespace, UDP),
    watch(t, client.namespace, UDP),
  ]);
  const tos = String(EXPEDITED << 2);
  const options = ['-n', '-c', String(PINGS), '-i', '0.05', '-Q', tos, node.behind.address];
  await promisify(execFile)(...inNamespace(client.namespace, 'ping', options));
  assert.deepEqual(await inner.heard(), new Set([EXPEDITED]));
  assert.deepEqual([await up.heard(), await down.heard()], [new Set([0]), new Set([0])]);
});

/** Listens from when it resolves; `heard` has the values of as many packets as there are pings. */
async function watch(t: TestContext, namespace: string, protocol: number): Promise<{ heard(): Promise<Set<number>> }> {
  const [command, args] = inNamespace(namespace, process.execPath, [CHILD, String(protocol), String(PINGS)]);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, 'ready');
  return {
    heard: async () =>
      new Set(
        String((await lines.next()).value)
          .split(' ')
          .map(Number),
      ),
  };
}
