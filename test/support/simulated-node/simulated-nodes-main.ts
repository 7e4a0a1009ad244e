import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AcceptedEvents } from './accepted-events.ts';
import { SimulatedNode } from './simulated-node.ts';
import type { SimulatedNodesPlan, SimulatedNodesStatus } from './simulated-nodes-process.ts';

/*
 * Simulated nodes as a process of their own, which can be frozen and killed. SIGUSR2 ends their load; they go on publishing.
 * SIGTERM stops them as it stops nodes.
 */

const STATUS_INTERVAL_MS = 250;

const [planFile = ''] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(planFile, 'utf8')) as SimulatedNodesPlan;
mkdirSync(dirname(plan.acceptedFile), { recursive: true });
const accepted = new AcceptedEvents(plan.acceptedFile);
const nodes = plan.nodes.map(
  ({ id, natsUrl, clients }) =>
    new SimulatedNode({
      id,
      natsUrl,
      stateDir: join(plan.stateDirectory, id),
      clients,
      load: plan.load,
      accepted,
      ...(plan.spool && { spool: plan.spool }),
    }),
);
let loadEnded = false;
/** When the watermark of each node last moved, or there was nothing to wait for. */
const movedAt = nodes.map((node) => ({ node, appliedSeq: node.appliedSeq, at: performance.now() }));
const sum = (figure: (node: SimulatedNode) => number) => nodes.reduce((total, node) => total + figure(node), 0);

function slowestWatermarkMs(): number {
  const now = performance.now();
  let slowest = 0;
  for (const watermark of movedAt) {
    const { appliedSeq, depth } = watermark.node;
    if (depth === 0 || appliedSeq !== watermark.appliedSeq) Object.assign(watermark, { appliedSeq, at: now });
    slowest = Math.max(slowest, now - watermark.at);
  }
  return Math.round(slowest);
}

function writeStatus(): void {
  const status: SimulatedNodesStatus = {
    at: Date.now(),
    loadEnded,
    connected: sum((node) => Number(node.isConnectedToNats)),
    supplied: sum((node) => Number(node.isSupplied)),
    connections: sum(({ size }) => size),
    accepted: accepted.count,
    depth: sum(({ depth }) => depth),
    slowestWatermarkMs: slowestWatermarkMs(),
    refusals: sum(({ refusals }) => refusals),
    repeated: sum(({ publisherStats }) => publisherStats.repeated),
  };
  // Whoever reads it finds a whole one.
  writeFileSync(`${plan.statusFile}.new`, JSON.stringify(status));
  renameSync(`${plan.statusFile}.new`, plan.statusFile);
}

process.once('SIGUSR2', () => {
  void Promise.all(nodes.map((node) => node.endLoad())).then(() => {
    loadEnded = true;
    writeStatus();
  });
});
process.once('SIGTERM', () => {
  void Promise.all(nodes.map((node) => node.stop())).then(() => {
    writeStatus();
    process.exit(0);
  });
});

await Promise.all(nodes.map((node) => node.start()));
writeStatus();
setInterval(writeStatus, STATUS_INTERVAL_MS);
