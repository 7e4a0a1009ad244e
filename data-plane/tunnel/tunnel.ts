import type { CloseReason } from '../../shared/events/node-events.ts';
import { formatAddress, sameAddress } from '../../shared/ip/address.ts';
import { isHostPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { H3_REQUEST_CANCELLED } from '../http3/error-codes.ts';
import { encodeAddressAssign, refusedAddress } from '../masque/address-assign.ts';
import type { RequestedAddress } from '../masque/address-request.ts';
import { CapsuleReader } from '../masque/capsule-reader.ts';
import { DATAGRAM_OF_PROBE, DATAGRAM_OF_UNKNOWN_CONTEXT, ipPacketOffset } from '../masque/ip-datagram.ts';
import { encodeRouteAdvertisement } from '../masque/route-advertisement.ts';
import { TunnelScope } from './scope.ts';
import type { TunnelHost } from './tunnel-host.ts';
import type { TunnelGrant } from './tunnel-messages.ts';
import { ipv6MtuProblem } from './tunnel-mtu.ts';
import { TunnelSession } from './tunnel-session.ts';
import type { TunnelTransport } from './tunnel-transport.ts';

/** One tunnel of a client, from its request to its end: what is the same whatever carries it. */
export class Tunnel {
  readonly session = new TunnelSession();
  readonly transport: TunnelTransport;
  readonly #host: TunnelHost;
  readonly #onEnded: () => void;
  readonly #capsules: CapsuleReader;
  /** What the client wished for before it was let in: capsules may come ahead of the answer (RFC 9297 3.2). */
  readonly #wishes: RequestedAddress[] = [];

  /** Whether it is known that the peer takes what the tunnel must carry. */
  #mtuChecked = false;

  /** `onEnded` is called once, whoever ends it. */
  constructor(host: TunnelHost, transport: TunnelTransport, onEnded: () => void) {
    this.transport = transport;
    this.#host = host;
    this.#onEnded = onEnded;
    this.#capsules = new CapsuleReader({
      onAddressAssign: () => {},
      onRouteAdvertisement: () => {},
      onAddressRequest: (requested) => {
        if (this.session.state.kind === 'open') this.#sendAssignments(requested);
        else this.#wishes.push(...requested);
      },
      onDatagram: (payload) => this.receivePayload(payload, 0, payload.length),
    });
  }

  /** The client is let in, and was told so: it gets its addresses and routes. */
  open({ connectionId, clientId, addresses, scope: accepted }: TunnelGrant): void {
    const scope = new TunnelScope({
      targets: accepted.targets?.map(parsePrefix) ?? null,
      protocol: accepted.protocol,
      advertised: this.#host.advertiseRoutes.map(parsePrefix),
    });
    this.session.accept({ kind: 'accept', connectionId, clientId, nowMs: performance.now() }, addresses, scope);
    this.#host.tunnelOpened(this, connectionId);
    if (!this.#checkMtu()) return;
    this.#sendAssignments(this.#wishes);
    const families = new Set(this.session.assignedPrefixes.map(({ address }) => address.family));
    this.transport.sendCapsule(encodeRouteAdvertisement(scope.routes(families)));
  }

  /** The addresses that the client wished for by name so far; an all-zero one stands for any. */
  get wishedAddresses(): readonly string[] {
    return this.#wishes
      .filter(({ prefix }) => isHostPrefix(prefix) && prefix.address.value !== 0n)
      .map(({ prefix }) => formatAddress(prefix.address));
  }

  /** Content of the stream, in any chunking. Throws Http3StreamError with the code to abort it with. */
  receiveContent(bytes: Uint8Array): void {
    this.#capsules.push(bytes);
  }

  /** The client ended its side. Throws Http3StreamError when it did so inside a capsule. */
  receiveEnd(): void {
    this.#capsules.end();
    this.end('client', 'end of stream');
  }

  /** The payload of an HTTP datagram. */
  receivePayload(bytes: Uint8Array, offset: number, end: number): void {
    if (this.session.state.kind !== 'open') {
      this.#host.drops.count('no_tunnel');
      return;
    }
    const packet = ipPacketOffset(bytes, offset, end);
    if (packet >= 0) this.#host.forwardUp(this, bytes, packet, end - packet);
    else if (packet !== DATAGRAM_OF_PROBE) {
      this.#host.drops.count(packet === DATAGRAM_OF_UNKNOWN_CONTEXT ? 'unknown_context' : 'malformed');
    }
  }

  /** To be called every PROBE_INTERVAL_MS while it is open. */
  probe(nowMs: number): void {
    if (!this.#checkMtu()) return;
    const packet = this.session.nextProbe(nowMs);
    if (packet !== undefined) this.transport.sendPacket(packet, 0, packet.length);
  }

  /** Ends it from our side, and tells the client. */
  close(reason: CloseReason, detail: string): void {
    this.end(reason, detail);
    if (reason === 'drained') this.transport.end();
    else this.transport.abort(H3_REQUEST_CANCELLED);
  }

  /** It is over: what it did is told, and its addresses are free. The stream is for the caller to end. */
  end(reason: CloseReason, detail: string): void {
    const before = this.session.end(reason, detail);
    if (before.kind === 'closed') return;
    this.#capsules.stop();
    this.#onEnded();
    if (before.kind !== 'open') return;
    const { connectionId, clientId, openedMs } = before;
    const durationMs = Math.round(performance.now() - openedMs);
    const totals = this.session.counters.totals();
    this.#host.tunnelClosed(this, { type: 'closed', connectionId, clientId, reason, detail, durationMs, totals });
  }

  /** What the traffic window that ends now has seen; undefined while the tunnel is not open. */
  endWindow() {
    return this.session.endWindow(this.transport.rttMs());
  }

  /** False when the client takes less than IPv6 needs, which ended the tunnel (RFC 9484 7.2). */
  #checkMtu(): boolean {
    if (this.#mtuChecked) return true;
    this.#mtuChecked = this.transport.learnMaxPacketBytes(this.#host.tunnelMtu);
    if (!this.session.assignedPrefixes.some(({ address }) => address.family === 6)) return true;
    const problem = ipv6MtuProblem(this.transport.maxPacketBytes);
    if (problem === undefined) return true;
    this.close('error', problem);
    return false;
  }

  // All that the tunnel has, each address as the answer to one wish for its family, or unasked; other wishes are refused (RFC 9484 4.7.2).
  #sendAssignments(requested: readonly RequestedAddress[]): void {
    const left = [...this.session.assignedPrefixes];
    const answers = requested.map(({ requestId, prefix: { address } }) => {
      const exact = left.findIndex((own) => sameAddress(own.address, address));
      const at = exact >= 0 ? exact : left.findIndex((own) => own.address.family === address.family);
      const [prefix] = at < 0 ? [] : left.splice(at, 1);
      return prefix === undefined ? refusedAddress(requestId, address.family) : { requestId, prefix };
    });
    const unasked = left.map((prefix) => ({ requestId: 0n, prefix }));
    this.transport.sendCapsule(encodeAddressAssign([...answers, ...unasked]));
  }
}
