import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { inNamespace } from '../../../deploy/local/netns-topology.ts';

const run = promisify(execFile);
const TABLE = 'inet blocked';

/** Drops what the namespace sends to and gets from a port of others, silently, until `unblock`. */
export async function block(namespace: string, protocol: 'udp' | 'tcp', port: number): Promise<void> {
  const chain = (hook: string, match: string) =>
    `chain ${protocol}-${hook} { type filter hook ${hook} priority 0; ${protocol} ${match} ${port} drop; };`;
  await nft(namespace, `table ${TABLE} { ${chain('output', 'dport')} ${chain('input', 'sport')} }`);
}

export async function unblock(namespace: string): Promise<void> {
  await nft(namespace, `delete table ${TABLE}`);
}

async function nft(namespace: string, command: string): Promise<void> {
  await run(...inNamespace(namespace, 'nft', [command]));
}
