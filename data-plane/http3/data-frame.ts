import { FRAME_DATA } from './frame.ts';
import { encodedVarintLength, writeVarint } from './varint.ts';

/** One DATA frame around a piece of content (RFC 9114 7.2.1). */
export function encodeData(content: Uint8Array): Uint8Array {
  const frame = new Uint8Array(1 + encodedVarintLength(content.length) + content.length);
  frame[0] = FRAME_DATA;
  frame.set(content, 1 + writeVarint(frame, 1, content.length));
  return frame;
}
