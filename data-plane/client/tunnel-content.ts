import { formatPrefix } from '../../shared/ip/prefix.ts';
import { rangeToPrefixes } from '../../shared/ip/range.ts';
import { H3_EXCESSIVE_LOAD, Http3StreamError } from '../http3/error-codes.ts';
import { type AssignedAddress, encodeAddressAssign, isRefusal, refusedAddress } from '../masque/address-assign.ts';
import type { RequestedAddress } from '../masque/address-request.ts';
import { CapsuleReader } from '../masque/capsule-reader.ts';
import { ipPacketOffset } from '../masque/ip-datagram.ts';
import type { IpRoute } from '../masque/route-advertisement.ts';
import type { ClientTunnelEvents } from './client-tunnel.ts';

export interface TunnelContentEvents extends Pick<ClientTunnelEvents, 'onConfigured' | 'onPacket'> {
  /** To the node. */
  sendCapsule(capsule: Uint8Array): void;
}

/** Addresses and networks that we take of a node (ours): each is set up by a call of `ip`, and a list can have thousands. */
const MAX_ADDRESSES = 16;
export const MAX_NETWORKS = 1_000;

/** What a node says in a tunnel, over whatever it comes: capsules become a configuration and answers, datagrams packets. */
export class TunnelContent {
  readonly #events: TunnelContentEvents;
  readonly #server: string;
  readonly #capsules: CapsuleReader;
  #addresses: readonly string[] | undefined;
  #routes: readonly string[] | undefined;

  /** `server` is the node's IP address. */
  constructor(server: string, events: TunnelContentEvents) {
    this.#server = server;
    this.#events = events;
    this.#capsules = new CapsuleReader({
      onAddressAssign: (assigned) => {
        this.#addresses = assignedPrefixes(assigned);
        this.#configure();
      },
      onRouteAdvertisement: (routes) => {
        this.#routes = advertisedNetworks(routes);
        this.#configure();
      },
      onAddressRequest: (requested) => this.#refuse(requested),
      onDatagram: (payload) => this.receivePayload(payload, 0, payload.length),
    });
  }

  /** Capsules, in any chunking. Throws Http3StreamError with the code to abort the stream with. */
  push(bytes: Uint8Array): void {
    this.#capsules.push(bytes);
  }

  /** The content ended. Throws Http3StreamError when it did inside a capsule. */
  end(): void {
    this.#capsules.end();
  }

  /** Ignores what comes from here on, also the rest of what is being pushed. */
  stop(): void {
    this.#capsules.stop();
  }

  /** The payload of an HTTP datagram, from `offset` to `end`. */
  receivePayload(bytes: Uint8Array, offset: number, end: number): void {
    const packet = ipPacketOffset(bytes, offset, end);
    if (packet >= 0) this.#events.onPacket(bytes, packet, end - packet);
  }

  #configure(): void {
    if (this.#addresses === undefined || this.#routes === undefined) return;
    this.#events.onConfigured({ addresses: this.#addresses, routes: this.#routes }, this.#server);
  }

  // We have no addresses to give: each wish is refused (RFC 9484 4.7.2).
  #refuse(requested: readonly RequestedAddress[]): void {
    const answers = requested.map(({ requestId, prefix }) => refusedAddress(requestId, prefix.address.family));
    this.#events.sendCapsule(encodeAddressAssign(answers));
  }
}

/** What the node gave, refused wishes aside. Throws H3_EXCESSIVE_LOAD. */
function assignedPrefixes(assigned: readonly AssignedAddress[]): string[] {
  const given = assigned.filter((one) => !isRefusal(one)).map(({ prefix }) => formatPrefix(prefix));
  if (given.length > MAX_ADDRESSES) throw excessive(`more than ${MAX_ADDRESSES} addresses assigned`);
  return given;
}

/** Throws H3_EXCESSIVE_LOAD. */
function advertisedNetworks(routes: readonly IpRoute[]): string[] {
  const networks = new Set<string>();
  for (const { start, end } of routes) {
    for (const prefix of rangeToPrefixes(start, end)) networks.add(formatPrefix(prefix));
    if (networks.size > MAX_NETWORKS) throw excessive(`more than ${MAX_NETWORKS} networks advertised`);
  }
  return [...networks];
}

function excessive(why: string): Http3StreamError {
  return new Http3StreamError(H3_EXCESSIVE_LOAD, why);
}
