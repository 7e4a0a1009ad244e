import { generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { startProcess } from '../../deploy/local/child-process.ts';
import { ipBatch } from '../../deploy/local/ip-command.ts';
import { discharge, entrust, type Leftover } from '../../deploy/local/janitor.ts';
import { inNamespace } from '../../deploy/local/netns-topology.ts';
import type { BenchContext } from '../bench-context.ts';
import { answersPing } from './answers-ping.ts';
import type { PathEnds, TunnelPath } from './tunnel-path.ts';

const PORT = 51820;
const NODE_ADDRESS = '203.0.113.5';
const CLIENT_ADDRESS = '203.0.113.6';
const READY_TIMEOUT_MS = 30_000;
const CONFIGURE_TIMEOUT_MS = 5_000;

/** wireguard-go with its defaults, set up by its own configuration protocol, so that wireguard-tools are not needed. */
export async function openWireguardGo(context: BenchContext, { client, node }: PathEnds): Promise<TunnelPath> {
  const nodeKeys = createKeys();
  const clientKeys = createKeys();
  const start = async (namespace: string, own: string, other: string, settings: readonly string[]) => {
    // Namespaces share the directory of the control sockets, so the interface is named after its namespace.
    const device = namespace.replace(/-.*-/, '-').slice(0, 11).concat('-wg');
    const socket = `/var/run/wireguard/${device}.sock`;
    const leftover: Leftover = { kind: 'path', path: socket };
    entrust(leftover);
    const [command, args] = inNamespace(namespace, 'wireguard-go', ['--foreground', device]);
    const logFile = join(context.directory, 'wireguard-go', `${device}.log`);
    const process = await startProcess({ name: `wireguard-go ${device}`, command, args, logFile });
    context.atEnd(async () => {
      await process.stop();
      discharge(leftover);
    });
    await process.untilReady(() => existsSync(socket), 'its control socket', READY_TIMEOUT_MS);
    await configure(socket, settings);
    await ipBatch(namespace, [`address add ${own} peer ${other} dev ${device}`, `link set ${device} up`]);
    return process;
  };
  const server = await start(node.namespace, NODE_ADDRESS, CLIENT_ADDRESS, [
    `private_key=${nodeKeys.private}`,
    `listen_port=${PORT}`,
    `public_key=${clientKeys.public}`,
    `allowed_ip=${CLIENT_ADDRESS}/32`,
  ]);
  const peer = await start(client.namespace, CLIENT_ADDRESS, NODE_ADDRESS, [
    `private_key=${clientKeys.private}`,
    `public_key=${nodeKeys.public}`,
    `endpoint=${node.address}:${PORT}`,
    `allowed_ip=${NODE_ADDRESS}/32`,
  ]);
  await peer.untilReady(() => answersPing(context, client.namespace, NODE_ADDRESS), 'tunnel', READY_TIMEOUT_MS);
  const pids = { client: peer.pid, server: server.pid };
  return { name: 'wireguard-go', clientNamespace: client.namespace, address: NODE_ADDRESS, pids };
}

/** An X25519 key pair in hexadecimal, as the configuration protocol wants it. */
function createKeys(): { readonly private: string; readonly public: string } {
  const { d, x } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  const hex = (text: string | undefined) => Buffer.from(text ?? '', 'base64url').toString('hex');
  return { private: hex(d), public: hex(x) };
}

/** One `set` of WireGuard's cross-platform configuration protocol. */
function configure(path: string, settings: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let answer = '';
    socket.setTimeout(CONFIGURE_TIMEOUT_MS, () => socket.destroy(new Error(`no answer on ${path}`)));
    socket.once('error', reject);
    socket.on('data', (chunk) => {
      answer += chunk;
      if (!answer.includes('\n\n')) return;
      socket.destroy();
      if (answer.startsWith('errno=0\n')) resolve();
      else reject(new Error(`wireguard-go refused its configuration: ${answer.trim()}`));
    });
    socket.write(`set=1\n${settings.join('\n')}\n\n`);
  });
}
