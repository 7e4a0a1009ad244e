import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import test from 'node:test';
import { promisify } from 'node:util';
import { discharge, entrust, type Leftover, ownIdentity } from '../../../deploy/local/janitor.ts';
import {
  buildTopology,
  cutOff,
  hasIpv6,
  inNamespace,
  restore,
  slotNamespaces,
} from '../../../deploy/local/netns-topology.ts';
import { claimSlot, releaseSlot } from '../../../deploy/local/slots.ts';
import { planTopology } from '../../../deploy/local/topology-plan.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';

const run = promisify(execFile);
const skip = needsRoot() || needsBinary('ping', 'iputils-ping');

async function network(t: { after(fn: () => Promise<void>): void }) {
  const slot = await claimSlot();
  const leftover: Leftover = { kind: 'slot', slot, owner: ownIdentity() };
  entrust(leftover);
  t.after(async () => {
    await releaseSlot(slot, ownIdentity());
    discharge(leftover);
  });
  const plan = planTopology(slot, { nodes: ['node-a', 'node-b'], clients: ['client-1'] });
  await buildTopology(plan);
  return plan;
}

async function pings(namespace: string, address: string): Promise<boolean> {
  const [command, args] = inNamespace(namespace, 'ping', ['-n', '-c', '1', '-W', '3', address]);
  return run(command, args).then(
    () => true,
    () => false,
  );
}

test('all that share the segment reach each other, and the servers only their node', { skip }, async (t) => {
  const plan = await network(t);
  const [a, b] = plan.nodes as [(typeof plan.nodes)[number], (typeof plan.nodes)[number]];
  const client = plan.clients[0]?.namespace as string;
  const reachable = [plan.rootAddress, a.address, b.address, ...(hasIpv6() ? [plan.rootAddress6, b.address6] : [])];
  for (const address of reachable) assert.ok(await pings(client, address), address);
  assert.ok(await pings(a.behind.namespace, a.behind.gateway));
  if (hasIpv6()) assert.ok(await pings(a.behind.namespace, a.behind.gateway6));
  // Without a tunnel nobody but its node has a route to a server.
  assert.equal(await pings(client, a.behind.address), false);
});

test('a cut stops what goes to one address, and the rest goes on', { skip }, async (t) => {
  const plan = await network(t);
  const client = plan.clients[0]?.namespace as string;
  const address = plan.nodes[0]?.address as string;
  await cutOff(client, address);
  await cutOff(client, address);
  assert.equal(await pings(client, address), false);
  assert.ok(await pings(client, plan.rootAddress));
  await restore(client, address);
  await restore(client, address);
  assert.ok(await pings(client, address));
});

test('two clusters have two slots, and a released slot leaves nothing behind', { skip }, async () => {
  const slots = await Promise.all([claimSlot(), claimSlot()]);
  assert.notEqual(slots[0], slots[1]);
  await buildTopology(planTopology(slots[0], { nodes: ['node-a'], clients: [] }));
  for (const slot of slots) {
    await releaseSlot(slot, ownIdentity());
    await releaseSlot(slot, ownIdentity());
    assert.deepEqual(await slotNamespaces(slot), []);
    assert.equal(existsSync(`/sys/class/net/mv${slot}`), false);
  }
});
