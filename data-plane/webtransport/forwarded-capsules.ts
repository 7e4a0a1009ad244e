import { type TlvHandler, TlvReader, type TlvTreatment } from '../http3/tlv-reader.ts';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_ADDRESS_REQUEST,
  CAPSULE_DATAGRAM,
  CAPSULE_ROUTE_ADVERTISEMENT,
  encodeCapsule,
  malformedCapsule,
} from '../masque/capsule.ts';
import { MAX_CAPSULE_BYTES, oversizedCapsule } from '../masque/capsule-reader.ts';

/**
 * Cuts a client's stream into whole capsules, so that datagrams can go between them. Unknown ones are read over. What is in them is for
 * the tunnel to judge.
 */
export class ForwardedCapsules implements TlvHandler {
  readonly #reader = new TlvReader(this);
  readonly #forward: (capsule: Uint8Array) => void;

  constructor(forward: (capsule: Uint8Array) => void) {
    this.#forward = forward;
  }

  /** Throws Http3StreamError for a capsule above MAX_CAPSULE_BYTES. */
  push(bytes: Uint8Array): void {
    this.#reader.push(bytes);
  }

  /** Throws Http3StreamError when the stream ends inside a capsule. */
  end(): void {
    if (!this.#reader.atBoundary) throw malformedCapsule('the stream ends inside a capsule');
  }

  onHeader(type: number, length: number): TlvTreatment {
    switch (type) {
      case CAPSULE_DATAGRAM:
      case CAPSULE_ADDRESS_ASSIGN:
      case CAPSULE_ADDRESS_REQUEST:
      case CAPSULE_ROUTE_ADVERTISEMENT:
        if (length <= MAX_CAPSULE_BYTES) return 'whole';
        throw oversizedCapsule(type);
      default:
        return 'skip';
    }
  }

  onWhole(type: number, value: Uint8Array): void {
    this.#forward(encodeCapsule(type, value));
  }

  onPiece(): void {}
}
