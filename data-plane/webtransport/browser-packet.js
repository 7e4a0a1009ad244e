/** IP packets in a page: addresses as text, and ICMP echo in IPv4 and IPv6. */

const ICMP = 1;
const ICMPV6 = 58;
const V4_HEADER = 20;
const V6_HEADER = 40;
const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } };
const TIME_TO_LIVE = 64;

/** Text of an address of 4 or 16 bytes. @param {Uint8Array} bytes */
export function readAddress(bytes) {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] << 8) | bytes[2 * i + 1]).toString(16));
  // The URL parser writes an address as RFC 5952 has it.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** Bytes of an address. @param {string} text */
export function writeAddress(text) {
  if (!text.includes(':')) return Uint8Array.from(text.split('.'), Number);
  const [head = '', tail] = text.split('::');
  const groups = (/** @type {string} */ part) => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = groups(tail ?? '');
  const middle = tail === undefined ? 0 : 8 - before.length - after.length;
  const all = [...before, ...Array(middle).fill('0'), ...after].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/**
 * A whole packet with an ICMP echo request.
 *
 * @param {string} from
 * @param {string} to
 * @param {number} identifier
 * @param {number} sequence
 */
export function echoRequest(from, to, identifier, sequence) {
  const version = from.includes(':') ? 6 : 4;
  const body = [ECHO[version].request, 0, 0, 0, identifier >> 8, identifier & 0xff, sequence >> 8, sequence & 0xff];
  return echoPacket(version, writeAddress(from), writeAddress(to), Uint8Array.from(body));
}

/** What the ICMP echo in a packet says; undefined where there is none. @param {Uint8Array} packet */
export function readEcho(packet) {
  const version = packet[0] >> 4;
  if (version !== 4 && version !== 6) return undefined;
  const header = version === 4 ? (packet[0] & 15) * 4 : V6_HEADER;
  if (packet.length < header + 8 || packet[version === 4 ? 9 : 6] !== (version === 4 ? ICMP : ICMPV6)) return undefined;
  const { request, reply } = ECHO[version];
  const type = packet[header];
  if (type !== request && type !== reply) return undefined;
  const [from, to] = version === 4 ? [12, 16] : [8, 24];
  return {
    version,
    isRequest: type === request,
    from: packet.subarray(from, to),
    to: packet.subarray(to, 2 * to - from),
    identifier: (packet[header + 4] << 8) | packet[header + 5],
    sequence: (packet[header + 6] << 8) | packet[header + 7],
    body: packet.subarray(header),
  };
}

/** The answer to an echo request to one of our addresses; undefined for all other packets. @param {Uint8Array} packet @param {string[]} own */
export function answerEcho(packet, own) {
  const echo = readEcho(packet);
  if (echo?.isRequest !== true || !own.includes(readAddress(echo.to))) return undefined;
  const body = echo.body.slice();
  body[0] = ECHO[echo.version].reply;
  return echoPacket(echo.version, echo.to, echo.from, body);
}

/** @param {4 | 6} version @param {Uint8Array} from @param {Uint8Array} to @param {Uint8Array} body of ICMP, its checksum not yet made */
function echoPacket(version, from, to, body) {
  const header = version === 4 ? V4_HEADER : V6_HEADER;
  const packet = new Uint8Array(header + body.length);
  const view = new DataView(packet.buffer);
  packet.set(body, header);
  view.setUint16(header + 2, 0);
  if (version === 4) {
    packet.set([0x45, 0]);
    view.setUint16(2, packet.length);
    packet.set([TIME_TO_LIVE, ICMP], 8);
    packet.set(from, 12);
    packet.set(to, 16);
    view.setUint16(10, checksum(packet.subarray(0, V4_HEADER)));
    view.setUint16(header + 2, checksum(packet.subarray(header)));
    return packet;
  }
  packet[0] = 0x60;
  view.setUint16(4, body.length);
  packet.set([ICMPV6, TIME_TO_LIVE], 6);
  packet.set(from, 8);
  packet.set(to, 24);
  // The pseudo-header (RFC 8200 8.1) adds length and protocol to the addresses, which are in front of the body already.
  view.setUint16(header + 2, checksum(packet.subarray(8), body.length + ICMPV6));
  return packet;
}

/** The Internet checksum (RFC 1071). @param {Uint8Array} bytes @param {number} [initial] */
function checksum(bytes, initial = 0) {
  let sum = initial;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i] << 8 : bytes[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
