import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { ip, ipBatch, ipBatchLenient } from './ip-command.ts';
import { identifyProcess, signalProcess } from './process-identity.ts';
import { slotPrefix, type TopologyPlan } from './topology-plan.ts';

const run = promisify(execFile);

/** A host without IPv6 in its kernel gets the IPv4 half of everything. */
export const hasIpv6 = (): boolean => existsSync('/proc/net/if_inet6');

/** Makes the namespaces and links of a plan whose slot is claimed (slots.ts), so its root interface is there already. */
export async function buildTopology(plan: TopologyPlan): Promise<void> {
  const { hubNamespace, rootInterface } = plan;
  const behind = plan.nodes.map((node) => node.behind);
  const places = [...plan.nodes, ...plan.clients];
  const namespaces = [hubNamespace, ...places.map((p) => p.namespace), ...behind.map((b) => b.namespace)];
  await ipBatch(
    undefined,
    namespaces.map((name) => `netns add ${name}`),
  );
  await ipBatch(undefined, [
    `link set ${hubEnd(rootInterface)} netns ${hubNamespace}`,
    ...places.map((p, i) => `link add eth0 netns ${p.namespace} type veth peer name port${i} netns ${hubNamespace}`),
    ...plan.nodes.map((n) => `link add lan0 netns ${n.namespace} type veth peer name eth0 netns ${n.behind.namespace}`),
    `address add ${plan.rootAddress}/28 dev ${rootInterface}`,
    ...v6Lines(`address add ${plan.rootAddress6}/64 dev ${rootInterface} nodad`),
    `link set ${rootInterface} up`,
  ]);
  await ipBatch(hubNamespace, [
    'link set lo up',
    'link add segment type bridge forward_delay 0',
    ...[hubEnd(rootInterface), ...places.map((_, i) => `port${i}`)].flatMap((port) => [
      `link set ${port} master segment`,
      `link set ${port} up`,
    ]),
    'link set segment up',
  ]);
  for (const place of places) {
    await ipBatch(place.namespace, [
      'link set lo up',
      `address add ${place.address}/28 dev eth0`,
      ...v6Lines(`address add ${place.address6}/64 dev eth0 nodad`),
      'link set eth0 up',
    ]);
  }
  for (const node of plan.nodes) {
    const { namespace, gateway, gateway6, address, address6 } = node.behind;
    await ipBatch(node.namespace, [
      `address add ${gateway}/30 dev lan0`,
      ...v6Lines(`address add ${gateway6}/64 dev lan0 nodad`),
      'link set lan0 up',
    ]);
    await ipBatch(namespace, [
      'link set lo up',
      `address add ${address}/30 dev eth0`,
      ...v6Lines(`address add ${address6}/64 dev eth0 nodad`),
      'link set eth0 up',
      `route add default via ${gateway}`,
      ...v6Lines(`route add ::/0 via ${gateway6}`),
    ]);
    await enableForwarding(node.namespace);
  }
}

/** The command line that runs a command in a namespace; the pid is the command's own. */
export function inNamespace(namespace: string, command: string, args: readonly string[]): [string, string[]] {
  return ['ip', ['netns', 'exec', namespace, command, ...args]];
}

/** Drops everything that the namespace sends to one address, until `restore`: a fault between two machines. */
export async function cutOff(namespace: string, address: string): Promise<void> {
  await ip('-n', namespace, 'route', 'replace', 'blackhole', hostRoute(address));
}

/** Ends a cut; does nothing when there is none. */
export async function restore(namespace: string, address: string): Promise<void> {
  await ip('-n', namespace, 'route', 'del', 'blackhole', hostRoute(address)).catch((error: unknown) => {
    if (!String(error).includes('No such process')) throw error;
  });
}

/** Ends all processes in the slot's namespaces and removes these and the root interface. Nothing there is fine too. */
export async function removeSlotNetwork(slot: number): Promise<void> {
  const namespaces = await slotNamespaces(slot);
  for (const namespace of namespaces) {
    const pids = await ip('netns', 'pids', namespace).catch(() => '');
    for (const pid of pids.split('\n').filter((line) => line !== '')) {
      const identity = identifyProcess(Number(pid));
      if (identity !== undefined) signalProcess(identity, 'SIGKILL');
    }
  }
  await ipBatchLenient([...namespaces.map((namespace) => `netns del ${namespace}`), `link del ${slotPrefix(slot)}`]);
}

export async function slotNamespaces(slot: number): Promise<string[]> {
  const listed = await ip('netns', 'list').catch(() => '');
  const names = listed.split('\n').map((line) => line.split(' ')[0] ?? '');
  return names.filter((name) => name.startsWith(`${slotPrefix(slot)}-`));
}

/** The other end of the root interface, before it moves to the hub. */
export const hubEnd = (rootInterface: string): string => `${rootInterface}h`;

const v6Lines = (...lines: string[]): string[] => (hasIpv6() ? lines : []);
const hostRoute = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;

async function enableForwarding(namespace: string): Promise<void> {
  // Not by sysctl(8): it is not part of a minimal Debian.
  const files = ['/proc/sys/net/ipv4/ip_forward', ...(hasIpv6() ? ['/proc/sys/net/ipv6/conf/all/forwarding'] : [])];
  const script = files.map((file) => `echo 1 > ${file}`).join(' && ');
  await run(...inNamespace(namespace, 'sh', ['-c', script]));
}
