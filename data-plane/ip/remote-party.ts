import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';

const IPV6_PARTY_BYTES = 8;

/** One remote party: an IPv4 address (also where it is mapped into IPv6), or the /64 of an IPv6 address. */
export function remoteParty(remoteAddress: string): string {
  const address = parseAddress(remoteAddress);
  const bytes = addressToBytes(address);
  if (address.family === 4) return bytes.join('.');
  const isMapped = address.value >> 32n === 0xffffn;
  return isMapped ? bytes.subarray(12).join('.') : bytes.subarray(0, IPV6_PARTY_BYTES).join(':');
}
