import type { CloseReason } from '../../shared/events/node-events.ts';
import { addressFromBytes, addressToBytes, parseAddress } from '../../shared/ip/address.ts';
import { hostPrefix, type IpPrefix } from '../../shared/ip/prefix.ts';
import { addressEquals } from '../ip/address-key.ts';
import type { PacketInfo } from '../ip/packet-info.ts';
import { TokenBucket } from '../ip/token-bucket.ts';
import { EchoProbe } from './echo-probe.ts';
import type { ScopeVerdict, TunnelScope } from './scope.ts';
import { TrafficCounters } from './traffic-counters.ts';
import type { ConnectionCounters } from './tunnel-messages.ts';
import { nextTunnelState, type TunnelState, type TunnelTransition } from './tunnel-state.ts';

/** ICMP errors to one client (ours). */
const ICMP_ERRORS = { ratePerSecond: 10, burst: 10 };

/** An address that the client holds, and the node's own address in the same block. */
export interface TunnelAddress {
  readonly address: string;
  readonly nodeAddress: string;
}

/** What one tunnel may do and did: its state, from its acceptance on the addresses that are reached by it, and its counters. */
export class TunnelSession {
  readonly counters = new TrafficCounters();
  /** What this client may cause in ICMP errors: one that spoofs must not use up what others need. */
  readonly icmpRate = new TokenBucket(ICMP_ERRORS);
  #state: TunnelState = { kind: 'requested' };
  #addresses: Uint8Array[] = [];
  #probe: EchoProbe | undefined;
  /** When it was asked for a probe last. */
  #packetsBefore = 0;
  #scope: TunnelScope | undefined;

  get state(): TunnelState {
    return this.#state;
  }

  /** The client's addresses, 4 or 16 bytes each. */
  get addresses(): readonly Uint8Array[] {
    return this.#addresses;
  }

  /** The same as prefixes, for ADDRESS_ASSIGN. */
  get assignedPrefixes(): readonly IpPrefix[] {
    return this.#addresses.map((address) => hostPrefix(addressFromBytes(address)));
  }

  accept(
    transition: Extract<TunnelTransition, { kind: 'accept' }>,
    addresses: readonly TunnelAddress[],
    scope: TunnelScope,
  ): void {
    this.#scope = scope;
    this.#state = nextTunnelState(this.#state, transition);
    this.#addresses = addresses.map(({ address }) => addressToBytes(parseAddress(address)));
    const [first] = addresses;
    if (first !== undefined) this.#probe = new EchoProbe(first.nodeAddress, first.address);
  }

  /** Ends the tunnel and returns the state that it was in before. */
  end(reason: CloseReason, detail: string): TunnelState {
    const before = this.#state;
    this.#state = nextTunnelState(before, { kind: 'end', reason, detail });
    return before;
  }

  /** Whether an inspected packet comes from an address that was assigned to this client (RFC 9484 7.2.1). */
  ownsSource(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
    for (const address of this.#addresses) {
      if (address.length !== info.addressLength) continue;
      if (addressEquals(bytes, offset + info.sourceOffset, address, 0, info.addressLength)) return true;
    }
    return false;
  }

  /** Whether the scope lets an inspected packet from the client pass. */
  checkUplink(bytes: Uint8Array, offset: number, info: PacketInfo): ScopeVerdict {
    return this.#scope?.checkUplink(bytes, offset, info) ?? 'address';
  }

  /** Whether the scope lets an inspected packet to the client pass. */
  checkDownlink(bytes: Uint8Array, offset: number, info: PacketInfo): ScopeVerdict {
    return this.#scope?.checkDownlink(bytes, offset, info) ?? 'address';
  }

  /** As `EchoProbe.next`. */
  nextProbe(nowMs: number): Uint8Array | undefined {
    const { packets } = this.counters;
    const hasTraffic = packets !== this.#packetsBefore;
    this.#packetsBefore = packets;
    return this.#probe?.next(nowMs, hasTraffic);
  }

  takeProbeAnswer(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
    return this.#probe?.takeAnswer(bytes, offset, info, performance.now()) ?? false;
  }

  /** What the window that ends now has seen; undefined while the tunnel is not open. The RTT is measured by probes where it is null. */
  endWindow(rttMs: number | null): ConnectionCounters | undefined {
    if (this.#state.kind !== 'open' || this.#probe === undefined) return undefined;
    const { connectionId, clientId } = this.#state;
    const probe = this.#probe.takeResults();
    return { connectionId, clientId, totals: this.counters.totals(), rttMs: rttMs ?? this.#probe.smoothedMs, probe };
  }
}
