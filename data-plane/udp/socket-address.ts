import { isIPv4, isIPv6 } from 'node:net';
import { CodedError } from '../../shared/errors.ts';
import { addressFromBytes, addressToBytes, formatAddress, parseAddress } from '../../shared/ip/address.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
/** Bytes of struct sockaddr_in. */
export const SOCKADDR_IN_BYTES = 16;
/** Bytes of struct sockaddr_in6. */
export const SOCKADDR_IN6_BYTES = 28;

/** A UDP peer. Immutable; equal peers may be different objects, so compare `text`. */
export interface SocketAddress {
  readonly family: 4 | 6;
  /** `192.0.2.1:4433` or `[2001:db8::1]:4433`, with `%<interface index>` inside the brackets for a scoped address. */
  readonly text: string;
  /** The address alone, as in `text` without brackets and scope. */
  readonly host: string;
  readonly port: number;
  /** The kernel's sockaddr_in or sockaddr_in6. */
  readonly bytes: Uint8Array;
}

export class InvalidSocketAddressError extends CodedError {
  constructor(text: string, why: string) {
    super('INVALID_SOCKET_ADDRESS', `"${text}" is not a socket address: ${why}; expected 192.0.2.1:4433 or [::1]:4433`);
  }
}

/** Parses `ip:port` or `[ipv6]:port`; names are not looked up. Throws InvalidSocketAddressError. */
export function parseSocketAddress(text: string): SocketAddress {
  const parts = /^(?:\[([^\]%]*)(?:%(\d{1,10}))?\]|([^:]*)):(\d{1,5})$/.exec(text);
  if (parts === null) throw new InvalidSocketAddressError(text, 'it has no address and port');
  const [, v6, scopeText, v4, portText] = parts;
  const port = Number(portText);
  if (port > 0xffff) throw new InvalidSocketAddressError(text, 'the port is above 65535');
  const host = v6 ?? v4 ?? '';
  if (v6 === undefined ? !isIPv4(host) : !isIPv6(host)) {
    throw new InvalidSocketAddressError(text, `"${host}" is not an IPv${v6 === undefined ? 4 : 6} address`);
  }
  const scope = Number(scopeText ?? 0);
  if (scope > 0xffffffff) throw new InvalidSocketAddressError(text, 'the scope is above 32 bits');
  return decodeSocketAddress(encode(addressToBytes(parseAddress(host)), port, scope), 0);
}

/**
 * Reads the sockaddr that the kernel wrote at `offset`, copying it. Throws InvalidSocketAddressError for another family or a
 * buffer that ends too early.
 */
export function decodeSocketAddress(source: Uint8Array, offset: number): SocketAddress {
  const family = (source[offset] ?? 0) | ((source[offset + 1] ?? 0) << 8);
  const length = family === AF_INET ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
  if ((family !== AF_INET && family !== AF_INET6) || offset + length > source.length) {
    throw new InvalidSocketAddressError(`family ${family}`, 'only whole IPv4 and IPv6 addresses are known');
  }
  const bytes = source.slice(offset, offset + length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const port = view.getUint16(2);
  if (family === AF_INET) {
    const host = formatAddress(addressFromBytes(bytes.subarray(4, 8)));
    return { family: 4, text: `${host}:${port}`, host, port, bytes };
  }
  const host = formatAddress(addressFromBytes(bytes.subarray(8, 24)));
  const scope = view.getUint32(24, true);
  const text = scope === 0 ? `[${host}]:${port}` : `[${host}%${scope}]:${port}`;
  return { family: 6, text, host, port, bytes };
}

function encode(address: Uint8Array, port: number, scope: number): Uint8Array {
  const v4 = address.length === 4;
  const bytes = new Uint8Array(v4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(address, v4 ? 4 : 8);
  if (!v4) view.setUint32(24, scope, true);
  return bytes;
}
