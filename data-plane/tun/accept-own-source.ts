import { writeFileSync } from 'node:fs';

/**
 * Lets IPv4 packets that we write to a TUN interface come from an address of this host: ICMP errors that the node sends by it were
 * discarded otherwise. Best effort: /proc/sys is read-only in some containers (set `net.ipv4.conf.default.accept_local` there), and all
 * that is missing then is these errors.
 */
export function acceptOwnSource(interfaceName: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv4/conf/${interfaceName}/accept_local`, '1');
  } catch {
    return;
  }
}
