import assert from 'node:assert/strict';
import test from 'node:test';
import { MAX_CLIENTS, MAX_NODES, planTopology, SLOTS } from '../../../deploy/local/topology-plan.ts';
import { formatAddress, parseAddress } from '../../../shared/ip/address.ts';
import { parsePrefix, prefixContains, prefixCovers } from '../../../shared/ip/prefix.ts';

const nodes = Array.from({ length: MAX_NODES }, (_, i) => `node-${i}`);
const clients = Array.from({ length: MAX_CLIENTS }, (_, i) => `client-${i}`);
const plans = Array.from({ length: SLOTS }, (_, slot) => planTopology(slot, { nodes, clients }));

test('no address is used twice, within a slot or by two slots', () => {
  const all = plans.flatMap((plan) => [
    ...[plan.rootAddress, plan.rootAddress6],
    ...[...plan.nodes, ...plan.clients].flatMap((place) => [place.address, place.address6]),
    ...plan.nodes.flatMap(({ behind: b }) => [b.address, b.address6, b.gateway, b.gateway6]),
  ]);
  const canonical = all.map((text) => formatAddress(parseAddress(text)));
  assert.equal(new Set(canonical).size, all.length);
});

test('every address is from a range for documentation', () => {
  const documentation = ['198.51.100.0/24', '192.0.2.0/24', '2001:db8::/32'].map(parsePrefix);
  for (const plan of plans) {
    for (const place of [...plan.nodes, ...plan.clients, ...plan.nodes.map((node) => node.behind)]) {
      for (const text of [place.address, place.address6]) {
        assert.ok(
          documentation.some((prefix) => prefixContains(prefix, parseAddress(text))),
          text,
        );
      }
    }
  }
});

test("a client's routes cover what is behind every node", () => {
  for (const plan of plans) {
    const routes = plan.behindPrefixes.map(parsePrefix);
    for (const { behind } of plan.nodes) {
      for (const inner of [behind.prefix, behind.prefix6].map(parsePrefix)) {
        assert.ok(routes.some((route) => prefixCovers(route, inner)));
      }
    }
  }
});

test('interface names fit into what Linux allows', () => {
  for (const plan of plans) assert.ok(`${plan.rootInterface}h`.length <= 15);
});

test('more nodes or clients than a slot has addresses for are refused', () => {
  assert.throws(() => planTopology(0, { nodes: [...nodes, 'more'], clients: [] }), /5 nodes: at most 4/);
  assert.throws(() => planTopology(0, { nodes, clients: [...clients, 'more'] }), /10 clients: at most 9/);
  assert.throws(() => planTopology(SLOTS, { nodes, clients }), /slot 16/);
});
