import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ConnectionFigures, renderConnections, reportConnections } from '../../../bench/connections-report.ts';

const figures: ConnectionFigures = {
  tunnels: 100,
  setupSeconds: 2,
  setupCpu: { node: 0.4, clients: 0.6 },
  refusals: 3,
  nodeBytes: { before: 100_000_000, after: 124_900_000 },
  clientBytes: 1_700_000_000,
  idleSeconds: 20,
  idleNodeCpu: 0.8,
  emptySeconds: 5,
  emptyNodeCpu: 0.05,
  stillOpen: 100,
};
const missed = (changes: Partial<ConnectionFigures>) =>
  reportConnections({ ...figures, ...changes })
    .bars.filter(({ verdict }) => verdict === 'MISSED')
    .map(({ name, actual }) => `${name}: ${actual}`);

test('totals become figures for each tunnel', () => {
  const { bars, ...report } = reportConnections(figures);
  assert.deepEqual(report, {
    ok: true,
    benchmark: 'connections',
    tunnels: 100,
    tunnelsPerSecond: 50,
    refusals: 3,
    setupCpuMsNode: 4,
    setupCpuMsClient: 6,
    nodeKbPerTunnel: 249,
    wholeNodeKbPerTunnel: 1_249,
    clientKbPerTunnel: 17_000,
    idleCpuPercent: 4,
    emptyCpuPercent: 1,
  });
  assert.equal(bars.length, 4);
});

test('each bar is missed by itself, with its figure', () => {
  assert.deepEqual(missed({}), []);
  assert.deepEqual(missed({ setupSeconds: 2.5 }), ['tunnels set up a second: 40']);
  assert.deepEqual(missed({ nodeBytes: { before: 100_000_000, after: 125_000_000 } }), ['memory at the node: 250']);
  assert.deepEqual(missed({ idleNodeCpu: 1 }), ['CPU of the node with 100 idle tunnels: 5']);
  assert.deepEqual(missed({ stillOpen: 99 }), ['tunnels still open: 99']);
});

test('the table has every figure with its unit', () => {
  assert.match(renderConnections(reportConnections(figures)), /memory, node, grown +249 +kB a tunnel/);
});
