import { Http3ConnectionError, QPACK_ENCODER_STREAM_ERROR } from '../error-codes.ts';

const SET_CAPACITY_ZERO = 0x20;

/**
 * Checks what the peer's encoder sends (RFC 9204 4.3). With our capacity of 0 the one instruction it may send is Set
 * Dynamic Table Capacity 0, a single byte; all else, whose first byte already tells, is QPACK_ENCODER_STREAM_ERROR.
 */
export function checkEncoderInstructions(bytes: Uint8Array): void {
  for (const byte of bytes) {
    if (byte === SET_CAPACITY_ZERO) continue;
    const what = (byte & 0xe0) === 0x20 ? 'sets a capacity above 0' : 'changes the dynamic table, whose capacity is 0';
    throw new Http3ConnectionError(QPACK_ENCODER_STREAM_ERROR, `QPACK encoder instruction ${what}`);
  }
}
