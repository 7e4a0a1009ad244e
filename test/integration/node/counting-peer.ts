import { createEchoInfo, echoPacketBytes, readEcho, writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { answerPing } from '../../support/answer-ping.ts';
import type { TestPeer } from '../../support/test-peer.ts';
import type { TunnelEnd } from '../../support/tunnel-end.ts';

const IDENTIFIER = 0x5a4d;

const info = createPacketInfo();
const echo = createEchoInfo();

/** A tunnel of a test that answers pings, sends each of its own once, and counts what it sends and gets. */
export class CountingPeer<End extends TunnelEnd = TestPeer> {
  readonly id: string;
  readonly peer: End;
  sent = { packets: 0, bytes: 0 };
  received = { packets: 0, bytes: 0 };
  #answered = 0;
  #sequence = 0;

  constructor(id: string, peer: End) {
    this.id = id;
    this.peer = peer;
    peer.onPacket = (packet) => this.#receive(packet);
  }

  address(family: 4 | 6): string {
    return this.peer.addresses.find((address) => address.includes(':') === (family === 6)) ?? '';
  }

  /** Pings that are each sent once, the next one when the answer is there. */
  async ping(address: string, count: number): Promise<void> {
    const destination = addressToBytes(parseAddress(address));
    const source = addressToBytes(parseAddress(this.address(destination.length === 4 ? 4 : 6)));
    const packet = new Uint8Array(echoPacketBytes(source.length, 0));
    for (let i = 0; i < count; i++) {
      const sequence = this.#sequence++ & 0xffff;
      const message = { source, destination, identifier: IDENTIFIER, sequence, payload: new Uint8Array(0) };
      writeEcho(packet, 0, { kind: 'request', ...message });
      const due = this.#answered + 1;
      add(this.sent, packet);
      this.peer.packet(packet);
      await this.peer.until(() => this.#answered >= due, `the answer of ${address} to ${this.id}`);
    }
  }

  #receive(packet: Buffer): void {
    add(this.received, packet);
    if (inspectPacket(packet, 0, packet.length, info) !== 'ok') return;
    const kind = readEcho(packet, 0, info, echo);
    if (kind === 'reply' && echo.identifier === IDENTIFIER) this.#answered++;
    if (kind !== 'request') return;
    add(this.sent, packet);
    answerPing(this.peer, packet);
  }
}

function add(to: { packets: number; bytes: number }, packet: Uint8Array): void {
  to.packets++;
  to.bytes += packet.length;
}
