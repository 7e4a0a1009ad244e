import { inspectPacket } from '../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../data-plane/ip/packet-info.ts';
import { CapsuleReader } from '../../data-plane/masque/capsule-reader.ts';
import { ipPacketOffset } from '../../data-plane/masque/ip-datagram.ts';
import { answerProbe } from '../../data-plane/tunnel/echo-probe.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';

/** What a client of a test makes of what comes through its tunnel, whatever carries it. */
export abstract class ClientEnd {
  /** Of each ADDRESS_ASSIGN: `0=10.99.0.2/32`. */
  readonly assigned: string[][] = [];
  /** How many routes were advertised last; undefined before that. */
  routes: number | undefined;
  /** IP packets that came, probes of the node aside (those are answered). */
  onPacket: (packet: Buffer) => void = () => {};
  answersProbes = true;
  readonly #info = createPacketInfo();
  readonly #capsules = new CapsuleReader({
    onAddressAssign: (assigned) =>
      this.assigned.push(assigned.map(({ requestId, prefix }) => `${requestId}=${formatPrefix(prefix)}`)),
    onAddressRequest: () => {},
    onRouteAdvertisement: (routes) => {
      this.routes = routes.length;
    },
    onDatagram: (payload) => this.receivePayload(payload, 0, payload.length),
  });

  /** The addresses of the last assignment, without their prefix lengths. */
  get addresses(): readonly string[] {
    return this.assigned.at(-1)?.map((text) => text.replace(/^.*=|\/.*$/g, '')) ?? [];
  }

  abstract packet(bytes: Uint8Array): unknown;

  /** Content of the stream, in any chunking. */
  protected receiveContent(bytes: Uint8Array): void {
    this.#capsules.push(bytes);
  }

  /** The payload of an HTTP datagram. */
  protected receivePayload(bytes: Uint8Array, offset: number, end: number): void {
    const at = ipPacketOffset(bytes, offset, end);
    if (at < 0) return;
    const packet = Buffer.from(bytes.subarray(at, end));
    if (inspectPacket(packet, 0, packet.length, this.#info) !== 'ok') return;
    const answer = this.answersProbes ? answerProbe(packet, 0, this.#info) : undefined;
    if (answer !== undefined) this.packet(answer);
    else this.onPacket(packet);
  }
}
