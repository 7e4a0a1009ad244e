import { compileCore, startCore } from '../../data-plane/quic/core-module.ts';
import type { QuicCore } from '../../data-plane/quic/quic-core.ts';

/** In quiche's Config::enable_dgram: i64.const 65536, the max_datagram_frame_size (RFC 9221 3) that is announced, and i64.store. */
const ANNOUNCED = Buffer.from('42808004370348', 'hex');
/** The same with other offsets, for the other kinds of client and server in the module. */
const ALSO_ANNOUNCED = Buffer.from('42808004370338', 'hex');
/** Of i64.const; its number follows, in LEB128 of three bytes. */
const OPCODE_BYTES = 1;

/** Around an IP packet in a DATAGRAM frame: type and length of the frame, quarter stream id, context id. */
const FRAME_BYTES = 3 + 1 + 1;

/** A QUIC core, for a peer of the test, that takes only IP packets of up to that many bytes, and says so in its transport parameters. */
export function coreThatTakes(packetBytes: number): QuicCore {
  const compiled = compileCore((module) => {
    const changed = Buffer.from(module);
    const places = [ANNOUNCED, ALSO_ANNOUNCED].flatMap((pattern) => indexesOf(changed, pattern));
    if (places.length === 0) throw new Error('the core announces max_datagram_frame_size in another way');
    const n = packetBytes + FRAME_BYTES;
    for (const at of places) changed.set([(n & 0x7f) | 0x80, ((n >> 7) & 0x7f) | 0x80, n >> 14], at + OPCODE_BYTES);
    return changed;
  });
  return startCore(compiled, () => {});
}

function indexesOf(bytes: Buffer, pattern: Buffer): number[] {
  const found: number[] = [];
  for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + 1)) found.push(at);
  return found;
}
