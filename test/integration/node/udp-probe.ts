import { createSocket } from 'node:dgram';

/* Sends one datagram to `<address> <port>` and prints what came of it: the error's code, or "silence". */

const PATIENCE_MS = 5_000;
const [address = '', port = ''] = process.argv.slice(2);
const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');

function end(what: string): void {
  process.stdout.write(what);
  process.exit();
}

socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
socket.connect(Number(port), address, () => socket.send('probe'));
setTimeout(() => end('silence'), PATIENCE_MS);
