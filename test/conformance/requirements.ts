/** Whom a requirement binds: the proxy (our node), the client, or both. */
export type Side = 'node' | 'client' | 'both';

export interface Requirement {
  readonly number: number;
  readonly side: Side;
  /** Where it is said, e.g. `9484-4.7.2`. */
  readonly sections: readonly string[];
  readonly text: string;
}

/** Sections in which the tests of one requirement may be named, beside its number. */
const item = (number: number, side: Side, sections: readonly string[], text: string): Requirement => ({
  number,
  side,
  sections,
  text,
});

/** What CONNECT-IP over HTTP/3 asks of its two ends, in our words. Tests name them as `item 21` or by a section that is one item's alone. */
export const ITEMS: readonly Requirement[] = [
  item(1, 'both', ['9114-6.2'], 'QUIC: ALPN h3, datagrams of 1400 bytes and more, unidirectional streams granted'),
  item(
    2,
    'both',
    ['9114-6.2.1', '9114-7.2.4'],
    'One control stream that begins with SETTINGS, says it once and never ends',
  ),
  item(
    3,
    'both',
    ['9114-7.2.4.1'],
    'Extended CONNECT and datagrams announced; bad and repeated settings refused, unknown ones ignored',
  ),
  item(4, 'both', ['9297-2.1.1'], 'No `:protocol` before the node allowed it, no datagram before both sides did'),
  item(
    5,
    'both',
    ['9204-4.2', '9114-6.2.3'],
    'QPACK streams once each and never closed; push streams refused; unknown stream types harmless',
  ),
  item(
    6,
    'both',
    ['9114-7'],
    'Frames where they do not belong, of HTTP/2 or of a wrong length end the connection; unknown types are skipped',
  ),
  item(
    7,
    'node',
    ['9484-4.4', '9114-4.1.2'],
    'A whole CONNECT request: all pseudo-headers, once, in front; no content and no connection fields',
  ),
  item(
    8,
    'node',
    ['9220-3', '9484-11'],
    'What is refused and how: unknown protocol 501, no token 401, another path 404, another authority 421',
  ),
  item(
    9,
    'both',
    ['9114-4.1'],
    'HEADERS first, nothing but DATA after the answer, and a request that ends early is incomplete',
  ),
  item(
    10,
    'node',
    ['9484-3', '9484-4.6'],
    'The default path is served, split before it is decoded, with and without escapes; scopes are kept both ways',
  ),
  item(11, 'node', [], 'Targets and protocols that are none make a request malformed'),
  item(12, 'node', [], 'A host name is resolved before the answer; if it cannot be, Proxy-Status says dns_error'),
  item(13, 'both', ['9297-3.4'], '`capsule-protocol: ?1` in requests and in the 2xx, nowhere else, and not demanded'),
  item(
    14,
    'client',
    ['9484-4.5'],
    'A tunnel opens with a 2xx that has no content; interim responses are tolerated, 101 is not',
  ),
  item(15, 'both', [], 'The tunnel lives as long as its stream: FIN, reset and idle time free its addresses'),
  item(
    16,
    'both',
    ['9297-2.1'],
    'The quarter stream id of a datagram: longer varints are legal, impossible values end the connection',
  ),
  item(17, 'both', [], 'Datagrams of streams that are not open yet, closed or beyond the limit'),
  item(18, 'both', [], 'A datagram for a stream that has none aborts that stream'),
  item(19, 'both', ['9484-6'], 'Context 0 is an IP packet; other contexts are dropped'),
  item(20, 'both', ['9297-3.5'], 'DATAGRAM capsules are taken on HTTP/3 too'),
  item(21, 'both', ['9484-4.7.1'], 'ADDRESS_ASSIGN: replaces all, may be empty, unasked ones have id 0'),
  item(
    22,
    'both',
    ['9484-4.7.2'],
    'ADDRESS_REQUEST: never empty, ids neither 0 nor reused; each is answered, with the zero address if refused',
  ),
  item(23, 'both', ['9484-4.7.3'], 'ROUTE_ADVERTISEMENT: replaces all, in order, without overlaps'),
  item(24, 'both', [], 'Capsules that are cut, too long or have impossible contents abort the stream'),
  item(25, 'both', ['9297-3.2'], 'Unknown capsules are read over without being kept; known ones are limited'),
  item(26, 'both', [], 'Capsules come in any pieces, and from the client also ahead of the answer'),
  item(27, 'node', ['9484-7.2.1'], "A packet from an address that is not the client's is dropped, and the client told"),
  item(
    28,
    'node',
    ['9484-4.8'],
    'A packet outside of the routes or of another protocol is dropped and answered; ICMP passes; extension headers are walked',
  ),
  item(29, 'both', [], 'TTL and hop limit fall by one on the way through, and expired packets are answered'),
  item(30, 'both', ['9484-7.2'], 'A bad packet costs itself, never its stream'),
  item(31, 'both', [], 'A tunnel that carries IPv6 has an MTU of 1280 or more'),
  item(32, 'both', ['9484-10.1'], 'A packet that is too large is dropped and its sender told the MTU'),
  item(33, 'both', ['9484-7.1'], 'Link-local and multicast are never forwarded'),
  item(
    34,
    'both',
    [],
    "ICMP about the client's packets comes from any source; errors are rationed, and none are about errors, groups or fragments",
  ),
  item(35, 'both', ['9484-10.3'], 'The inner DSCP is not copied to the outside'),
  item(36, 'both', ['9204-3.2.3'], 'The QPACK encoder uses no dynamic table'),
  item(37, 'both', ['9204-4.5'], 'The QPACK decoder knows all static forms, Huffman code and long integers'),
  item(38, 'both', ['9204-2.2'], 'Field sections that need a dynamic table, or are broken, are refused'),
  item(
    39,
    'both',
    ['9204-4.3', '9204-4.4'],
    'Capacity 0 and cancellations are tolerated on QPACK streams, all else is an error',
  ),
  item(
    40,
    'both',
    ['9114-5.2'],
    'GOAWAY: first the warning, then the last stream; later requests are refused, tunnels drained, and ids never rise',
  ),
  item(41, 'both', [], 'CONNECT-IP over HTTP/2, with every packet in a capsule'),
];

export interface MalformedInput {
  readonly number: number;
  readonly text: string;
}

const input = (number: number, text: string): MalformedInput => ({ number, text });

/** What a broken or hostile peer sends. Tests name them as `input 25`; their titles or tables say the outcome. */
export const INPUTS: readonly MalformedInput[] = [
  input(1, 'GOAWAY as the first frame of the control stream'),
  input(2, 'a second control stream'),
  input(3, 'the end of the control stream'),
  input(4, 'the datagram setting twice'),
  input(5, 'the datagram setting with value 2'),
  input(6, 'the extended-CONNECT setting with value 2'),
  input(7, 'a setting of HTTP/2'),
  input(8, 'SETTINGS that end inside of a pair'),
  input(9, 'SETTINGS of 1 MiB'),
  input(10, 'DATA on the control stream'),
  input(11, 'a frame of HTTP/2'),
  input(12, 'an unknown frame of the greatest length'),
  input(13, 'an unknown stream that is reset'),
  input(14, 'a stream that ends inside of its type'),
  input(15, 'a push stream from a client'),
  input(16, 'a second encoder stream'),
  input(17, 'an insert on the encoder stream'),
  input(18, 'an insert count increment of 0'),
  input(19, 'a required insert count of 1'),
  input(20, 'index 99 of the static table'),
  input(21, 'the end-of-string code in Huffman text'),
  input(22, 'eight bits of Huffman padding'),
  input(23, 'an integer of 70 bits'),
  input(24, 'a string that is longer than its frame'),
  input(25, 'a header of 1 MiB'),
  input(26, 'DATA before HEADERS'),
  input(27, 'trailers on an open tunnel'),
  input(28, 'the end of a stream inside of DATA'),
  input(29, 'a request stream that ends empty'),
  input(30, ':path twice'),
  input(31, 'a pseudo-header after a field'),
  input(32, 'Content-Length: 0'),
  input(33, 'broken escapes, and a wildcard that is escaped twice'),
  input(34, 'host bits in the target, impossible protocol numbers'),
  input(35, 'an empty datagram'),
  input(36, 'a quarter stream id of 2^60'),
  input(37, 'a flood of datagrams for streams that are not open'),
  input(38, 'a datagram after the end of its stream'),
  input(39, 'datagrams without a context, and of an unknown one'),
  input(40, 'IP packets that are none: empty, of another version, with wrong lengths or cut headers'),
  input(41, 'ADDRESS_ASSIGN of the greatest length'),
  input(42, 'an unknown capsule of 1 MiB'),
  input(43, 'ADDRESS_ASSIGN with a wrong version, prefix or length, and cut at every byte'),
  input(44, 'ADDRESS_REQUEST that is empty, has id 0 or an id again'),
  input(45, 'routes out of order or overlapping'),
  input(46, 'the end of the stream inside of a capsule'),
  input(47, 'a GOAWAY that rises'),
  input(48, 'a reset inside of a capsule'),
  input(49, 'everything one byte at a time, and a request that never gets whole'),
];
