/** Comparing addresses where they lie in a packet, without making objects of them. */

/** Whether two addresses of `length` bytes are equal. */
export function addressEquals(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number, length: number): boolean {
  for (let i = 0; i < length; i++) {
    if (a[aOffset + i] !== b[bOffset + i]) return false;
  }
  return true;
}

/** Below 0, 0 or above 0, in the order of the addresses as numbers; both have `length` bytes. For ranges of routes. */
export function compareAddresses(
  a: Uint8Array,
  aOffset: number,
  b: Uint8Array,
  bOffset: number,
  length: number,
): number {
  for (let i = 0; i < length; i++) {
    const difference = a[aOffset + i]! - b[bOffset + i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Whether the address at `offset` begins with the first `prefixBits` bits of `prefix`; both are of one family. */
export function addressInPrefix(bytes: Uint8Array, offset: number, prefix: Uint8Array, prefixBits: number): boolean {
  const whole = prefixBits >>> 3;
  for (let i = 0; i < whole; i++) {
    if (bytes[offset + i] !== prefix[i]) return false;
  }
  const rest = prefixBits & 7;
  return rest === 0 || (bytes[offset + whole]! ^ prefix[whole]!) >>> (8 - rest) === 0;
}

/** Multicast, in either family. */
export function isMulticast(bytes: Uint8Array, offset: number, addressLength: number): boolean {
  return addressLength === 4 ? bytes[offset]! >>> 4 === 0xe : bytes[offset]! === 0xff;
}

/** 169.254.0.0/16 or fe80::/10: never forwarded (RFC 9484, 7.1). */
export function isLinkLocal(bytes: Uint8Array, offset: number, addressLength: number): boolean {
  if (addressLength === 4) return bytes[offset] === 169 && bytes[offset + 1] === 254;
  return bytes[offset] === 0xfe && (bytes[offset + 1]! & 0xc0) === 0x80;
}

/** 255.255.255.255: all hosts of the link (RFC 919). */
export function isLimitedBroadcast(bytes: Uint8Array, offset: number, addressLength: number): boolean {
  if (addressLength !== 4) return false;
  return (bytes[offset]! & bytes[offset + 1]! & bytes[offset + 2]! & bytes[offset + 3]!) === 0xff;
}

/** Whether it can be the address of one host: not unspecified, loopback, multicast, reserved or broadcast. */
export function isUnicastHost(bytes: Uint8Array, offset: number, addressLength: number): boolean {
  if (addressLength === 4) {
    const first = bytes[offset]!;
    return first !== 0 && first !== 127 && first < 224;
  }
  if (bytes[offset] === 0xff) return false;
  for (let i = 0; i < 15; i++) if (bytes[offset + i] !== 0) return true;
  return bytes[offset + 15]! > 1;
}
