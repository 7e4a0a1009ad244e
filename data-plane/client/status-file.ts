import { renameSync, writeFileSync } from 'node:fs';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
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

/** Where the client tells of itself. A tunnel is worth more than its status: where that cannot be written, the log says so, once. */
export class StatusFile {
  readonly #path: string;
  readonly #log: Pick<Logger, 'warn'>;
  #isFailing = false;

  constructor(path: string, log: Pick<Logger, 'warn'>) {
    this.#path = path;
    this.#log = log;
  }

  /** A reader sees the old status or the new one, never half of it. */
  write(status: ClientStatus): void {
    const temporary = `${this.#path}.${process.pid}.new`;
    try {
      writeFileSync(temporary, `${JSON.stringify(status)}\n`, { mode: 0o600 });
      renameSync(temporary, this.#path);
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) this.#log.warn(`the status file cannot be written: ${describeError(error)}`);
      this.#isFailing = true;
    }
  }
}
