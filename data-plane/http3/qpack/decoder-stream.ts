import { Http3ConnectionError, QPACK_DECODER_STREAM_ERROR } from '../error-codes.ts';

/** Continuation bytes of the longest stream id, 62 bits in groups of 7. */
const MAX_CONTINUATION_BYTES = 9;

/**
 * Reads what the peer's decoder sends (RFC 9204 4.4). Our encoder never uses the dynamic table, so acknowledgments and
 * increments have nothing to refer to and are QPACK_DECODER_STREAM_ERROR; stream cancellations are read over.
 */
export class DecoderStreamReader {
  /** Continuation bytes read of a cancelled stream's id, or -1 between instructions. */
  #continuation = -1;

  push(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (this.#continuation >= 0) {
        if (++this.#continuation > MAX_CONTINUATION_BYTES) throw failed('has a stream id of more than 62 bits');
        if (byte < 0x80) this.#continuation = -1;
      } else if (byte & 0x80) {
        throw failed('acknowledges a section without dynamic references');
      } else if (!(byte & 0x40)) {
        throw failed('increments an insert count that is always 0');
      } else if ((byte & 0x3f) === 0x3f) {
        this.#continuation = 0;
      }
    }
  }
}

function failed(why: string): Http3ConnectionError {
  return new Http3ConnectionError(QPACK_DECODER_STREAM_ERROR, `QPACK decoder instruction ${why}`);
}
