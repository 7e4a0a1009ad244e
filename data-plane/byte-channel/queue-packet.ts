import { encodedVarintLength, writeVarint } from '../http3/varint.ts';
import { CAPSULE_DATAGRAM } from '../masque/capsule.ts';
import { IP_CONTEXT_LENGTH, writeIpContext } from '../masque/ip-datagram.ts';
import { copyBytes } from '../os/copy-bytes.ts';
import type { ByteChannel } from './byte-channel.ts';

/** Bytes of the DATAGRAM type, 0. */
const TYPE_BYTES = 1;

/** Queues one IP packet in a DATAGRAM capsule (RFC 9297 3.5, RFC 9484 6). False when the channel's queue is full. */
export function queuePacket(channel: ByteChannel, bytes: Uint8Array, offset: number, length: number): boolean {
  const valueLength = IP_CONTEXT_LENGTH + length;
  const headerLength = TYPE_BYTES + encodedVarintLength(valueLength);
  let at = channel.reserve(headerLength + valueLength);
  if (at < 0) return false;
  const { target } = channel;
  target[at] = CAPSULE_DATAGRAM;
  at += TYPE_BYTES;
  at += writeVarint(target, at, valueLength);
  at += writeIpContext(target, at);
  copyBytes(bytes, offset, target, at, length);
  return true;
}
