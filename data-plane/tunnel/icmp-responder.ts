import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';
import { type IcmpProblem, MAX_ICMP_ERROR_BYTES, mayAnswerWithError, writeIcmpError } from '../ip/icmp-error.ts';
import type { PacketInfo } from '../ip/packet-info.ts';
import { TokenBucket } from '../ip/token-bucket.ts';

/** ICMP errors about packets from behind the node (ours): enough for people, too few to amplify a flood. Clients have a budget each. */
const ICMP_ERRORS = { ratePerSecond: 100, burst: 50 };

/** Writes the errors that a node answers packets with, from an address of its own. */
export class IcmpResponder {
  /** The error that was written last. */
  readonly packet = new Uint8Array(Math.max(...Object.values(MAX_ICMP_ERROR_BYTES)));
  readonly #rate = new TokenBucket(ICMP_ERRORS);
  readonly #tunnelMtu: number;
  readonly #addresses = new Map<string, Uint8Array>();

  constructor(tunnelMtu: number) {
    this.#tunnelMtu = tunnelMtu;
  }

  addAddress(address: string): void {
    this.#addresses.set(address, addressToBytes(parseAddress(address)));
  }

  removeAddress(address: string): void {
    this.#addresses.delete(address);
  }

  /** Writes the error about an inspected packet to `packet`; returns its length, or 0 when none is to be sent, e.g. for `rate`. */
  write(
    problem: IcmpProblem,
    bytes: Uint8Array,
    offset: number,
    info: PacketInfo,
    rate = this.#rate,
    mtu = this.#tunnelMtu,
  ): number {
    const from = this.#addressOf(info.addressLength);
    // A packet that nobody may be told about must not use up the answers to others.
    if (from === undefined || !mayAnswerWithError(bytes, offset, info) || !rate.take(performance.now())) return 0;
    return writeIcmpError(this.packet, 0, { problem, from, mtu }, bytes, offset, info);
  }

  #addressOf(addressLength: number): Uint8Array | undefined {
    for (const address of this.#addresses.values()) if (address.length === addressLength) return address;
    return undefined;
  }
}
