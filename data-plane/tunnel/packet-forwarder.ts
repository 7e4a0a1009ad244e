import { AddressTable } from '../ip/address-table.ts';
import type { IcmpProblem } from '../ip/icmp-error.ts';
import type { TunDevice } from '../tun/tun-device.ts';
import { downlinkInfo, routeDownlink } from './downlink.ts';
import type { DropCounters } from './drop-counters.ts';
import type { IcmpResponder } from './icmp-responder.ts';
import type { Tunnel } from './tunnel.ts';
import type { TunnelNetwork } from './tunnel-network.ts';
import type { TunnelSession } from './tunnel-session.ts';
import { checkUplink, uplinkInfo } from './uplink.ts';

/** Packets taken from the TUN device before what they became is sent, and those of one read beyond them. */
const TUN_BATCH = 32;

/** IP packets between open tunnels and the TUN device: each is checked, and forwarded and counted, or dropped and answered. */
export class PacketForwarder {
  readonly #tun: TunDevice<TunnelSession>;
  readonly #icmp: IcmpResponder;
  readonly #drops: DropCounters;
  readonly #tunnelMtu: number;
  readonly #byAddress = new AddressTable<Tunnel>();
  // Made once: it runs for every packet.
  readonly #onTunPacket = (bytes: Uint8Array, offset: number, length: number): void =>
    this.#forwardDown(bytes, offset, length);

  constructor({ tun, icmp }: TunnelNetwork, tunnelMtu: number, drops: DropCounters) {
    this.#tun = tun;
    this.#icmp = icmp;
    this.#tunnelMtu = tunnelMtu;
    this.#drops = drops;
  }

  /** Packets for the tunnel's addresses go to it from here on. */
  add(tunnel: Tunnel): void {
    for (const address of tunnel.session.addresses) this.#byAddress.set(address, tunnel);
  }

  remove({ session }: Tunnel): void {
    for (const address of session.addresses) this.#byAddress.delete(address);
  }

  // --- the packet's way up

  /** One IP packet from a client, to the TUN device if it passes the checks; it leaves with `flush`. Made once: it runs for every packet. */
  readonly forwardUp = (tunnel: Tunnel, bytes: Uint8Array, offset: number, length: number): void => {
    const { session } = tunnel;
    const verdict = checkUplink(session, bytes, offset, length);
    switch (verdict) {
      case 'forward':
        session.counters.countIn(length);
        this.#tun.queue(bytes, offset, length, session);
        return;
      case 'probe':
        return;
      case 'source':
        this.#answerUp('source_prohibited', tunnel, bytes, offset);
        this.#drops.count(verdict);
        return;
      case 'no_route':
        this.#answerUp('no_route', tunnel, bytes, offset);
        this.#drops.count('scope');
        return;
      case 'protocol':
        this.#answerUp('protocol_prohibited', tunnel, bytes, offset);
        this.#drops.count('scope');
        return;
      case 'malformed':
      case 'scope':
        this.#drops.count(verdict);
        return;
      default:
        verdict satisfies never;
    }
  };

  flush(): void {
    this.#tun.flush();
  }

  // --- the packet's way down

  /** Packets wait at the TUN device. */
  get hasWaiting(): boolean {
    return this.#tun.received.hasWaiting;
  }

  /** A batch of the packets that were taken from the TUN device into their tunnels. */
  sendDown(): void {
    for (let packets = 0; packets < TUN_BATCH && this.#tun.received.hasWaiting; ) {
      packets += this.#tun.receive(this.#onTunPacket);
    }
  }

  #forwardDown(bytes: Uint8Array, offset: number, length: number): void {
    const tunnel = routeDownlink(this.#byAddress, bytes, offset, length);
    if (tunnel === 'no_client') {
      this.#answerDown('address_unreachable', bytes, offset);
      this.#drops.count('no_client');
      return;
    }
    if (tunnel === 'ignored') {
      this.#drops.count('no_client');
      return;
    }
    const { session, transport } = tunnel;
    // What is longer than the interface's MTU the kernel answers itself: here are those that only this tunnel cannot take.
    const mtu = Math.min(this.#tunnelMtu, transport.maxPacketBytes);
    if (session.checkDownlink(bytes, offset, downlinkInfo) !== 'inside') {
      this.#answerDown('protocol_prohibited', bytes, offset);
      this.#drops.count('scope');
    } else if (length > mtu) {
      this.#answerDown('too_big', bytes, offset, mtu);
      this.#drops.count('too_big');
    } else if (transport.sendPacket(bytes, offset, length)) {
      session.counters.countOut(length);
    } else {
      this.#drops.count('queue_full');
    }
  }

  // --- ICMP errors

  #answerUp(problem: IcmpProblem, { session, transport }: Tunnel, bytes: Uint8Array, offset: number): void {
    const length = this.#icmp.write(problem, bytes, offset, uplinkInfo, session.icmpRate);
    if (length > 0) transport.sendPacket(this.#icmp.packet, 0, length);
  }

  #answerDown(problem: IcmpProblem, bytes: Uint8Array, offset: number, mtu?: number): void {
    const length = this.#icmp.write(problem, bytes, offset, downlinkInfo, undefined, mtu);
    if (length > 0) this.#tun.write(this.#icmp.packet, 0, length);
  }
}
