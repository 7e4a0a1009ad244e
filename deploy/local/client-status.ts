import { readIfPresent } from './secret-file.ts';

/** What the client process writes to its status file: inner IP packets, over all its connections, sent by the client. */
export interface ClientStatus {
  readonly state: 'connecting' | 'connected' | 'closed';
  readonly tun?: string;
  /** Prefixes, e.g. `10.99.0.2/32`. */
  readonly addresses: readonly string[];
  readonly mtu?: number;
  readonly connects: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly packetsSent: number;
  readonly packetsReceived: number;
  readonly lastError?: string | null;
}

export function readClientStatus(file: string): ClientStatus | undefined {
  const text = readIfPresent(file);
  return text === undefined ? undefined : (JSON.parse(text) as ClientStatus);
}
