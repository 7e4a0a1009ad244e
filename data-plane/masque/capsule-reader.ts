import { type TlvHandler, TlvReader } from '../http3/tlv-reader.ts';
import { type AssignedAddress, parseAddressAssign } from './address-assign.ts';
import { parseAddressRequest, type RequestedAddress, UsedRequestIds } from './address-request.ts';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_ADDRESS_REQUEST,
  CAPSULE_DATAGRAM,
  CAPSULE_ROUTE_ADVERTISEMENT,
  malformedCapsule,
} from './capsule.ts';
import { capsuleTreatment } from './capsule-treatment.ts';
import { type IpRoute, parseRouteAdvertisement } from './route-advertisement.ts';

export interface CapsuleHandler {
  onAddressAssign(assigned: readonly AssignedAddress[]): void;
  onAddressRequest(requested: readonly RequestedAddress[]): void;
  onRouteAdvertisement(routes: readonly IpRoute[]): void;
  /** An HTTP datagram payload that came in a capsule. The bytes are only valid during the call. */
  onDatagram(payload: Uint8Array): void;
}

/**
 * Reads the capsules of one CONNECT-IP stream (RFC 9297 3.2, RFC 9484 4.7) from its content in any chunking. Unknown
 * capsules are read over without being kept. All errors are Http3StreamError with the code to abort the stream with,
 * so `push` and `end` can be called right from `onData` and `onStreamEnd` of an Http3Connection.
 */
export class CapsuleReader implements TlvHandler {
  readonly #handler: CapsuleHandler;
  readonly #reader = new TlvReader(this);
  readonly #requestIds = new UsedRequestIds();
  readonly onHeader = capsuleTreatment;

  constructor(handler: CapsuleHandler) {
    this.#handler = handler;
  }

  /** Throws H3_MESSAGE_ERROR for a malformed capsule, H3_EXCESSIVE_LOAD for a known one above MAX_CAPSULE_BYTES. */
  push(bytes: Uint8Array): void {
    this.#reader.push(bytes);
  }

  /** The content ended. Throws H3_MESSAGE_ERROR when it did inside a capsule. */
  end(): void {
    if (!this.#reader.atBoundary) throw malformedCapsule('the stream ends inside a capsule');
  }

  /** Ignores everything from here on, also the rest of the bytes being pushed: the stream is closed. */
  stop(): void {
    this.#reader.stop();
  }

  onWhole(type: number, value: Uint8Array): void {
    switch (type) {
      case CAPSULE_DATAGRAM:
        this.#handler.onDatagram(value);
        break;
      case CAPSULE_ADDRESS_ASSIGN:
        this.#handler.onAddressAssign(parseAddressAssign(value));
        break;
      case CAPSULE_ADDRESS_REQUEST: {
        const requested = parseAddressRequest(value);
        this.#requestIds.add(requested);
        this.#handler.onAddressRequest(requested);
        break;
      }
      case CAPSULE_ROUTE_ADVERTISEMENT:
        this.#handler.onRouteAdvertisement(parseRouteAdvertisement(value));
        break;
    }
  }

  onPiece(): void {}
}
