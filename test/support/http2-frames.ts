import { concat } from '../unit/http3/recording.ts';

/* HTTP/2 by hand (RFC 9113), for what no library sends. */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const FRAME = { DATA: 0, HEADERS: 1, RST_STREAM: 3, SETTINGS: 4, PING: 6, GOAWAY: 7, CONTINUATION: 9 } as const;
export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;
export const ACK = 0x1;
const FRAME_HEADER_BYTES = 9;
/** Of the payload, where SETTINGS do not say otherwise. */
const MAX_FRAME_BYTES = 16_384;

export interface Http2Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function http2Frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = new Uint8Array(0),
): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, payload]);
}

/** A header block of literals that are neither indexed nor Huffman-coded (RFC 7541 6.2.2), whatever they are. */
export function headerBlock(lines: readonly (readonly [string, string])[]): Uint8Array {
  return concat(...lines.flatMap(([name, value]) => [Uint8Array.of(0), literal(name), literal(value)]));
}

/** A header section in as many frames as it needs, of a stream that goes on. */
export function headersFrames(streamId: number, lines: readonly (readonly [string, string])[]): Buffer[] {
  const block = headerBlock(lines);
  const parts = Array.from({ length: Math.ceil(block.length / MAX_FRAME_BYTES) }, (_, i) =>
    block.subarray(i * MAX_FRAME_BYTES, (i + 1) * MAX_FRAME_BYTES),
  );
  return parts.map((part, i) =>
    http2Frame(i === 0 ? FRAME.HEADERS : FRAME.CONTINUATION, part === parts.at(-1) ? END_HEADERS : 0, streamId, part),
  );
}

/** The whole frames of what came. */
export function readFrames(bytes: Buffer): Http2Frame[] {
  const frames: Http2Frame[] = [];
  for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length; ) {
    const end = at + FRAME_HEADER_BYTES + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    frames.push({
      type: bytes[at + 3] ?? 0,
      flags: bytes[at + 4] ?? 0,
      streamId: bytes.readUInt32BE(at + 5) & 0x7fffffff,
      payload: bytes.subarray(at + FRAME_HEADER_BYTES, end),
    });
    at = end;
  }
  return frames;
}

/** A string with its length as an integer of 7 bits and more (RFC 7541 5.1). */
function literal(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'latin1');
  const length: number[] = [];
  if (bytes.length < 127) length.push(bytes.length);
  else {
    length.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return concat(Uint8Array.from(length), bytes);
}
