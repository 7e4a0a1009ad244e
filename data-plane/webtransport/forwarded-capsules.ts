import { type TlvHandler, TlvReader } from '../http3/tlv-reader.ts';
import { encodeCapsule, malformedCapsule } from '../masque/capsule.ts';
import { capsuleTreatment } from '../masque/capsule-treatment.ts';

/**
 * Cuts a client's stream into whole capsules, so that datagrams can go between them. Unknown ones are read over. What is in them is for
 * the tunnel to judge.
 */
export class ForwardedCapsules implements TlvHandler {
  readonly #reader = new TlvReader(this);
  readonly #forward: (capsule: Uint8Array) => void;
  readonly onHeader = capsuleTreatment;

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

  onWhole(type: number, value: Uint8Array): void {
    this.#forward(encodeCapsule(type, value));
  }

  onPiece(): void {}
}
