import { encodeFrame, FRAME_HEADERS } from './frame.ts';
import { encodeFieldSection } from './qpack/encoder.ts';
import type { FieldLine } from './qpack/field-line.ts';

/** One HEADERS frame with a QPACK-encoded field section (RFC 9114 7.2.2). */
export function encodeHeaders(lines: readonly FieldLine[]): Uint8Array {
  return encodeFrame(FRAME_HEADERS, encodeFieldSection(lines));
}
