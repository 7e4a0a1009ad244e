/**
 * A tunnel of masque-vpn for a page: one WebTransport session in which IP packets are datagrams. Plain JavaScript that needs nothing but
 * the browser's WebTransport. README.md beside this file says what is on the wire.
 */

import { answerEcho, echoRequest, readAddress } from './browser-packet.js';

const CAPSULE_ADDRESS_ASSIGN = 1;
const CAPSULE_ROUTE_ADVERTISEMENT = 3;
/** Of a type that means nothing (RFC 9297 5.4). */
const RESERVED_CAPSULE = 0x17;
/** The context of IP packets, which comes before each (RFC 9484 6). */
const IP_CONTEXT = 0;
/** Bytes of a capsule that are kept until it is whole. */
const MAX_CAPSULE_BYTES = 65_536;

/**
 * Opens a tunnel. `url` is the node's, e.g. `https://vpn.example:4433/.well-known/masque/ip/%2A/%2A/`; `token` is the client's.
 * Resolves when the node has assigned addresses and routes. Rejects when it refuses; browsers do not tell a page the status.
 *
 * @param {string} url
 * @param {string} token
 * @param {{ onPacket?: (packet: Uint8Array) => void, WebTransport?: any, options?: object }} [settings] `onPacket` gets what comes through
 *   the tunnel but for the node's probes, which are answered here. `options` go to WebTransport, e.g. serverCertificateHashes.
 */
export async function openTunnel(url, token, settings = {}) {
  const { onPacket = () => {}, WebTransport = globalThis.WebTransport, options = {} } = settings;
  // A page cannot set fields of the request, so the token is in the query.
  const target = new URL(url);
  target.searchParams.set('token', token);
  const session = new WebTransport(target.href, options);
  // Who does not look at `closed` must not hear of it as an unhandled rejection.
  session.closed.catch(() => {});
  await session.ready;

  const { datagrams } = session;
  const writer = (datagrams.createWritable?.() ?? datagrams.writable).getWriter();
  /** @param {Uint8Array} packet */
  const send = (packet) => {
    const datagram = new Uint8Array(1 + packet.length);
    datagram[0] = IP_CONTEXT;
    datagram.set(packet, 1);
    return writer.write(datagram);
  };

  const tunnel = {
    /** @type {string[]} */
    addresses: [],
    /** First and last address of each network that the tunnel leads to. @type {{ first: string, last: string, protocol: number }[]} */
    routes: [],
    send,
    /** Sends an ICMP echo request from one of our addresses. @type {(to: string, identifier: number, sequence: number) => Promise<void>} */
    ping: (to, identifier, sequence) => {
      const from = tunnel.addresses.find((address) => address.includes(':') === to.includes(':'));
      if (from === undefined) throw new Error(`no address of the family of ${to}`);
      return send(echoRequest(from, to, identifier, sequence));
    },
    /** Resolves with `{closeCode, reason}` when the tunnel has ended. */
    closed: session.closed,
    close: () => session.close({ closeCode: 0, reason: '' }),
  };

  const stream = await session.createBidirectionalStream();
  // The node answers on the stream, which it sees only once something came: a capsule of a reserved type, which it reads over.
  await stream.writable.getWriter().write(new Uint8Array([RESERVED_CAPSULE, 0]));

  const assigned = new Promise((resolve, reject) => {
    const take = (/** @type {number} */ type, /** @type {Uint8Array} */ value) => {
      if (type === CAPSULE_ADDRESS_ASSIGN) tunnel.addresses = readAssigned(value);
      if (type !== CAPSULE_ROUTE_ADVERTISEMENT) return;
      tunnel.routes = readRoutes(value);
      resolve(undefined);
    };
    readCapsules(stream.readable, take).then(() => reject(new Error('the node ended the tunnel')), reject);
  });
  receive(datagrams.readable, (packet) => {
    const answer = answerEcho(packet, tunnel.addresses);
    if (answer === undefined) onPacket(packet);
    else send(answer).catch(() => {});
  }).catch(() => {});
  await assigned;
  return tunnel;
}

/** @param {ReadableStream<Uint8Array>} datagrams @param {(packet: Uint8Array) => void} onPacket */
async function receive(datagrams, onPacket) {
  const reader = datagrams.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    const [context, offset] = readVarint(next.value, 0) ?? [];
    if (context === IP_CONTEXT) onPacket(next.value.subarray(offset));
  }
}

/** @param {ReadableStream<Uint8Array>} stream @param {(type: number, value: Uint8Array) => void} onCapsule */
async function readCapsules(stream, onCapsule) {
  const reader = stream.getReader();
  let bytes = new Uint8Array(0);
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    const joined = new Uint8Array(bytes.length + next.value.length);
    joined.set(bytes);
    joined.set(next.value, bytes.length);
    bytes = joined;
    for (;;) {
      const [type, afterType] = readVarint(bytes, 0) ?? [];
      const [length, start] = (afterType === undefined ? undefined : readVarint(bytes, afterType)) ?? [];
      if (type === undefined || length === undefined || start === undefined) break;
      if (length > MAX_CAPSULE_BYTES) throw new Error(`a capsule of ${length} bytes`);
      if (bytes.length < start + length) break;
      onCapsule(type, bytes.subarray(start, start + length));
      bytes = bytes.slice(start + length);
    }
  }
}

/** ADDRESS_ASSIGN (RFC 9484 4.7.1): request id, version, address, prefix length. @param {Uint8Array} value */
function readAssigned(value) {
  const addresses = [];
  for (let at = 0; at < value.length; ) {
    const [, afterId] = must(readVarint(value, at));
    const length = addressLength(value[afterId]);
    addresses.push(readAddress(value.subarray(afterId + 1, afterId + 1 + length)));
    at = afterId + length + 2;
  }
  return addresses;
}

/** ROUTE_ADVERTISEMENT (RFC 9484 4.7.3): version, first and last address, protocol. @param {Uint8Array} value */
function readRoutes(value) {
  const routes = [];
  for (let at = 0; at < value.length; ) {
    const length = addressLength(value[at]);
    const first = readAddress(value.subarray(at + 1, at + 1 + length));
    const last = readAddress(value.subarray(at + 1 + length, at + 1 + 2 * length));
    routes.push({ first, last, protocol: value[at + 1 + 2 * length] ?? 0 });
    at += 2 * length + 2;
  }
  return routes;
}

/** @param {number | undefined} version */
function addressLength(version) {
  if (version !== 4 && version !== 6) throw new Error(`an address of IP version ${version}`);
  return version === 4 ? 4 : 16;
}

/** A QUIC variable-length integer and where it ends; undefined when it is cut off. @param {Uint8Array} bytes @param {number} at */
function readVarint(bytes, at) {
  const first = bytes[at];
  if (first === undefined || at + (1 << (first >> 6)) > bytes.length) return undefined;
  const end = at + (1 << (first >> 6));
  let value = first & 0x3f;
  for (let i = at + 1; i < end; i++) value = value * 256 + (bytes[i] ?? 0);
  return /** @type {[number, number]} */ ([value, end]);
}

/** @template T @param {T | undefined} value @returns {T} */
function must(value) {
  if (value === undefined) throw new Error('a capsule that is cut off');
  return value;
}
