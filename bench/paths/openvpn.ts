import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority, issueServerCertificate } from '../../deploy/local/certificate.ts';
import { startProcess } from '../../deploy/local/child-process.ts';
import { inNamespace } from '../../deploy/local/netns-topology.ts';
import type { BenchContext } from '../bench-context.ts';
import { answersPing } from './answers-ping.ts';
import type { PathEnds, TunnelPath } from './tunnel-path.ts';

const PORT = 1194;
const CIPHER = 'AES-128-GCM';
const NODE_ADDRESS = '203.0.113.1';
const CLIENT_ADDRESS = '203.0.113.2';
const READY_TIMEOUT_MS = 30_000;

/** openvpn over UDP as Debian sets it up, point to point, with certificates; in user space also where its kernel module is. */
export async function openOpenvpn(context: BenchContext, { client, node }: PathEnds): Promise<TunnelPath> {
  const directory = join(context.directory, 'openvpn');
  const authority = await createAuthority(directory, 'masque-vpn bench CA');
  const start = async (name: 'server' | 'client', namespace: string, options: readonly string[]) => {
    const { certificateFile, keyFile } = await issueServerCertificate(authority, directory, name, [name], name);
    const [command, args] = inNamespace(namespace, 'openvpn', [
      ...['--dev', 'ovpn0', '--dev-type', 'tun', '--proto', 'udp', '--disable-dco', '--verb', '3'],
      ...['--data-ciphers', CIPHER, '--ca', authority.certificateFile, '--cert', certificateFile, '--key', keyFile],
      ...options,
    ]);
    const logFile = join(directory, `${name}.log`);
    const process = await startProcess({ name: `openvpn ${name}`, command, args, logFile });
    context.atEnd(() => process.stop());
    return process;
  };
  const server = await start('server', node.namespace, [
    ...['--tls-server', '--dh', 'none', '--local', node.address, '--port', `${PORT}`],
    ...['--ifconfig', NODE_ADDRESS, CLIENT_ADDRESS],
  ]);
  const peer = await start('client', client.namespace, [
    ...['--tls-client', '--nobind', '--remote', node.address, `${PORT}`],
    ...['--ifconfig', CLIENT_ADDRESS, NODE_ADDRESS],
  ]);
  await peer.untilReady(() => answersPing(context, client.namespace, NODE_ADDRESS), 'tunnel', READY_TIMEOUT_MS);
  if (!readFileSync(peer.logFile, 'utf8').includes(`Data Channel: cipher '${CIPHER}'`)) {
    throw new Error(`openvpn did not agree on ${CIPHER}, see ${peer.logFile}`);
  }
  const pids = { client: peer.pid, server: server.pid };
  return { name: 'openvpn', clientNamespace: client.namespace, address: NODE_ADDRESS, pids };
}
