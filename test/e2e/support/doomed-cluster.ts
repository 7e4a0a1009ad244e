import { startCluster } from '../../../deploy/local/cluster.ts';
import { entrust } from '../../../deploy/local/janitor.ts';

/* A launcher of a whole cluster: says on standard output what it has, and waits to be killed. */

const directory = process.argv[2] as string;
entrust({ kind: 'path', path: directory });
const cluster = await startCluster({ directory, nodes: ['node-a'], clients: ['client-1'] });
const services = [cluster.controlPlane, ...[...cluster.nodes, ...cluster.clients].map(({ service }) => service)];
const started = [cluster.nats().process, cluster.postgres().process, ...services.map((service) => service.process())];
console.log(JSON.stringify({ slot: cluster.plan.slot, pids: started.map(({ pid }) => pid) }));
setInterval(() => undefined, 1_000);
