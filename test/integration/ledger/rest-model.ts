import { parseAddress } from '../../../shared/ip/address.ts';
import { ADDRESS_REST_MS } from '../../../shared/ip/block.ts';
import { type IpPrefix, prefixContains } from '../../../shared/ip/prefix.ts';

/** Which addresses a node has to let rest: from what happened to it, and nothing that it keeps itself. */
export class RestModel {
  /** When each was released last; null: it was open when the process died. */
  private readonly stored = new Map<string, number | null>();
  /** The same in this process, where one that was left open rests from when its block is in use. */
  private known = new Map<string, number>();

  assigned(addresses: readonly string[]): void {
    for (const address of addresses) {
      this.stored.delete(address);
      this.known.delete(address);
    }
  }

  released(addresses: readonly string[], at: number): void {
    for (const address of addresses) {
      this.stored.set(address, at);
      this.known.set(address, at);
    }
  }

  leftOpen(addresses: readonly string[]): void {
    for (const address of addresses) this.stored.set(address, null);
  }

  /** A new process on the disk of the last one. */
  started(): void {
    this.known = new Map([...this.stored].flatMap(([address, at]) => (at === null ? [] : [[address, at]])));
  }

  blockInUse(block: IpPrefix, at: number): void {
    for (const [address, released] of this.stored) {
      const isLeftOpen = released === null && !this.known.has(address);
      if (isLeftOpen && prefixContains(block, parseAddress(address))) this.known.set(address, at);
    }
  }

  lostDisk(): void {
    this.stored.clear();
  }

  rests(address: string, now: number): boolean {
    const at = this.known.get(address);
    return at !== undefined && now - at < ADDRESS_REST_MS;
  }
}
