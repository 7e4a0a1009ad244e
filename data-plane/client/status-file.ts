import { renameSync, writeFileSync } from 'node:fs';
import type { Transport } from './transport-race.ts';

/** What the client tells of itself. Packets are inner IP packets, over all reconnects; `sent` is from the client. */
export interface ClientStatus {
  readonly state: 'connecting' | 'connected' | 'closed';
  /** The node's URL without its query. */
  readonly url: string;
  readonly tun: string;
  /** What the tunnel runs over; null while there is none. */
  readonly transport: Transport | null;
  /** Assigned prefixes. */
  readonly addresses: readonly string[];
  readonly mtu: number;
  /** How many tunnels were opened. */
  readonly connects: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly packetsSent: number;
  readonly packetsReceived: number;
  readonly lastError: string | null;
}

/** Writes the status so that a reader sees the old one or the new one, never half of it. */
export function writeStatusFile(path: string, status: ClientStatus): void {
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, `${JSON.stringify(status)}\n`, { mode: 0o600 });
  renameSync(temporary, path);
}
