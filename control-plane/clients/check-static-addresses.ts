import { describeValue } from '../../shared/describe-value.ts';
import { CodedError } from '../../shared/errors.ts';
import {
  type AddressFamily,
  formatAddress,
  type IpAddress,
  parseAddress,
  sameAddress,
} from '../../shared/ip/address.ts';
import { isHostAddress, nodeAddress } from '../../shared/ip/block.ts';
import {
  formatPrefix,
  hostPrefix,
  type IpPrefix,
  lastAddress,
  prefixAround,
  prefixContains,
} from '../../shared/ip/prefix.ts';

/** A pool as far as its clients' addresses are concerned. */
export interface ClientPool {
  readonly name: string;
  readonly prefixes: readonly IpPrefix[];
  readonly blockLength: Readonly<Record<AddressFamily, number>>;
}

/** What other parties have of the addresses that are asked for. */
export interface Claims {
  /** By address in canonical text: whose own it is. */
  readonly owners: ReadonlyMap<string, string>;
  /** Blocks of more than one address that nodes hold now. */
  readonly held: readonly { readonly block: IpPrefix; readonly node: string }[];
}

type Problem =
  | 'ADDRESS_INVALID'
  | 'ADDRESS_FAMILY_TWICE'
  | 'ADDRESS_OUTSIDE_POOL'
  | 'ADDRESS_RESERVED'
  | 'ADDRESS_TAKEN'
  | 'ADDRESS_IN_USE';

/** Why an address cannot be a client's own. ADDRESS_TAKEN and ADDRESS_IN_USE may be otherwise at another time. */
export class StaticAddressError extends CodedError {
  readonly address: string;

  constructor(code: Problem, address: string, why: string, options?: { cause?: unknown }) {
    super(code, `${describeValue(address)} ${why}`, options);
    this.address = address;
  }
}

/** The addresses of a request, in canonical text and at most one of each family. Throws StaticAddressError. */
export function readAddresses(texts: readonly string[]): string[] {
  const read = new Map<AddressFamily, string>();
  for (const text of texts) {
    const address = parse(text);
    const other = read.get(address.family);
    if (other !== undefined) {
      const why = `is a second IPv${address.family} address beside ${other}: a client has one of each family at most`;
      throw new StaticAddressError('ADDRESS_FAMILY_TWICE', text, why);
    }
    read.set(address.family, formatAddress(address));
  }
  return [...read.values()];
}

/** Whether an address can be this client's own. Throws StaticAddressError, which says what is allowed. */
export function checkStaticAddress(text: string, clientId: string, pool: ClientPool, claims: Claims): void {
  const address = parse(text);
  const { family } = address;
  const prefixes = pool.prefixes.filter((prefix) => prefix.address.family === family);
  const prefix = prefixes.find((other) => prefixContains(other, address));
  if (prefix === undefined) {
    const has = prefixes.length === 0 ? 'none' : prefixes.map(formatPrefix).join(', ');
    const why = `is in no network of the client's pool "${pool.name}", whose IPv${family} networks are: ${has}`;
    throw new StaticAddressError('ADDRESS_OUTSIDE_POOL', text, why);
  }
  const reserved = reservation(address, prefix, pool.blockLength[family]);
  if (reserved !== undefined) throw new StaticAddressError('ADDRESS_RESERVED', text, reserved);
  const owner = claims.owners.get(text);
  if (owner !== undefined && owner !== clientId) {
    throw new StaticAddressError('ADDRESS_TAKEN', text, `is the address of client "${owner}"`);
  }
  const held = claims.held.find(({ block }) => prefixContains(block, address));
  if (held !== undefined) {
    const why = `lies in the block ${formatPrefix(held.block)}, which node "${held.node}" holds: allowed is what no node holds; nodes take blocks from the front of a network, so those at its end are free longest`;
    throw new StaticAddressError('ADDRESS_IN_USE', text, why);
  }
}

/** What an address is kept for, and what could be had instead. */
function reservation(address: IpAddress, prefix: IpPrefix, blockLength: number): string | undefined {
  const block = prefixAround(hostPrefix(address), Math.max(blockLength, prefix.length));
  const node = nodeAddress({ pool: prefix, block });
  const last = lastAddress(block);
  const highest = isHostAddress(prefix, last) ? last : { ...last, value: last.value - 1n };
  const allowed = `allowed in its block ${formatPrefix(block)} are ${formatAddress({ ...node, value: node.value + 1n })} to ${formatAddress(highest)}`;
  if (!isHostAddress(prefix, address)) {
    const what = sameAddress(address, prefix.address) ? 'the network address' : 'the broadcast address';
    return `is ${what} of ${formatPrefix(prefix)}; ${allowed}`;
  }
  return sameAddress(address, node) ? `is the address of the node that holds its block; ${allowed}` : undefined;
}

function parse(text: string): IpAddress {
  try {
    return parseAddress(text);
  } catch (cause) {
    const why = 'is not an IP address: expected something like 10.99.200.7 or fd00:99::c8:7';
    throw new StaticAddressError('ADDRESS_INVALID', text, why, { cause });
  }
}
