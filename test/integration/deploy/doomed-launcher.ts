import { startProcess } from '../../../deploy/local/child-process.ts';
import { entrust, ownIdentity } from '../../../deploy/local/janitor.ts';
import { buildTopology, inNamespace } from '../../../deploy/local/netns-topology.ts';
import { identifyProcess } from '../../../deploy/local/process-identity.ts';
import { claimSlot } from '../../../deploy/local/slots.ts';
import { planTopology } from '../../../deploy/local/topology-plan.ts';

/* Makes what a launcher makes, says so on standard output, and waits to be killed. */

const directory = process.argv[2] as string;
const slot = await claimSlot();
entrust({ kind: 'slot', slot, owner: ownIdentity() });
entrust({ kind: 'path', path: directory });
const plan = planTopology(slot, { nodes: ['node-a'], clients: ['client-1'] });
await buildTopology(plan);
const sleep = ['-e', 'setInterval(() => {}, 1000)'];
const stubborn = ['-e', "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)"];
const [command, args] = inNamespace(plan.nodes[0]?.namespace as string, process.execPath, sleep);
const children = [
  await startProcess({ name: 'inside', command, args, logFile: `${directory}/inside.log` }),
  await startProcess({
    name: 'outside',
    command: process.execPath,
    args: stubborn,
    logFile: `${directory}/outside.log`,
  }),
];
console.log(JSON.stringify({ slot, processes: children.map((child) => identifyProcess(child.pid)) }));
setInterval(() => undefined, 1_000);
