import { internetChecksum, pseudoHeaderSumV4, pseudoHeaderSumV6 } from '../../data-plane/ip/checksum.ts';
import { writeUint16 } from '../../data-plane/ip/ipv4-header.ts';
import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';
import { packet } from '../unit/ip/sample-packets.ts';

const UDP = 17;
const UDP_HEADER = Uint8Array.of(0x30, 0x39, 0x9c, 0x41, 0, 0, 0, 0);

/** An IP packet with a UDP datagram to a port where nobody listens. */
export function udpPacket(from: string, to: string, data: Uint8Array = Uint8Array.of(1, 2, 3, 4)): Uint8Array {
  const datagram = new Uint8Array(UDP_HEADER.length + data.length);
  datagram.set(UDP_HEADER);
  datagram.set(data, UDP_HEADER.length);
  writeUint16(datagram, 4, datagram.length);
  const source = addressToBytes(parseAddress(from));
  const destination = addressToBytes(parseAddress(to));
  const family = from.includes(':') ? 6 : 4;
  const bytes = packet({ family, source, destination, protocol: UDP, payload: datagram });
  const start = bytes.length - datagram.length;
  const pseudo = (family === 4 ? pseudoHeaderSumV4 : pseudoHeaderSumV6)(bytes, 0, UDP, datagram.length);
  writeUint16(bytes, start + 6, internetChecksum(bytes, start, datagram.length, pseudo));
  return bytes;
}
