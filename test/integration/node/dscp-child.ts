import { setTimeout as delay } from 'node:timers/promises';
import { check, read, socket } from '../../../data-plane/os/libc.ts';

/*
 * Arguments: an IP protocol and how many packets. Says "ready", and then the DSCP of each IPv4 packet of that protocol which this
 * namespace receives, on one line.
 */

const AF_INET = 2;
const SOCK_RAW_NONBLOCK = 3 | 0x800;
const POLL_MS = 5;

const [protocol, count] = process.argv.slice(2).map(Number);
const fd = check(socket(AF_INET, SOCK_RAW_NONBLOCK, protocol ?? 0), 'socket', 'a raw socket');
const packet = new Uint8Array(2048);
const seen: number[] = [];
process.stdout.write('ready\n');
while (seen.length < (count ?? 0)) {
  if (read(fd, packet, packet.length) > 0) seen.push(packet[1]! >>> 2);
  else await delay(POLL_MS);
}
process.stdout.write(`${seen.join(' ')}\n`);
