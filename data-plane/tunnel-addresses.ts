import type { AddressFamily, IpAddress } from '../shared/ip/address.ts';
import { nodeAddress } from '../shared/ip/block.ts';
import {
  type AddressBook,
  AddressesExhaustedError,
  type AssignedAddress,
  type AssignRequest,
  type BookChange,
} from './address/address-book.ts';
import type { KnownClient } from './credentials/credential-set.ts';
import type { StaticAddresses } from './static-addresses/static-addresses.ts';

/** An address of a tunnel, and the address of the node that answers for it. */
interface TunnelAddress extends AssignedAddress {
  readonly nodeAddress: IpAddress;
}

export interface ChosenAddresses extends BookChange {
  readonly addresses: readonly TunnelAddress[];
}

export interface TunnelAddressesOptions {
  readonly book: AddressBook;
  /** A shard has no free address of families of a pool: resolves, within seconds, when it has more, or with why none are to be had. */
  readonly moreAddresses: (
    shard: number,
    pool: string,
    families: readonly AddressFamily[],
  ) => Promise<string | undefined>;
  /** The addresses that clients have of their own. */
  readonly statics: Pick<StaticAddresses, 'claim' | 'released'>;
  /** The node's own address of a family in a shard; undefined while it has no block of that family there. */
  readonly nodeAddressIn: (shard: number, family: AddressFamily) => IpAddress | undefined;
}

export interface AddressWish extends Pick<AssignRequest, 'shard' | 'connectionId' | 'families' | 'wished'> {
  readonly client: KnownClient;
}

const NOTHING: BookChange = { addresses: [], save: () => {} };

/** The addresses of tunnels: those that are their client's own and, of families of which it has none, those that are free. */
export class TunnelAddresses {
  readonly #options: TunnelAddressesOptions;
  /** By connection. */
  readonly #own = new Map<string, readonly AssignedAddress[]>();

  constructor(options: TunnelAddressesOptions) {
    this.#options = options;
  }

  /**
   * Gets the addresses of a new tunnel, of each family one where there are any. Rejects with AddressesExhaustedError or
   * StaticAddressUnavailableError; the connection is to be released then as well.
   */
  async choose(wish: AddressWish): Promise<ChosenAddresses> {
    const { client, shard, connectionId, families } = wish;
    const { clientId } = client;
    const { statics } = this.#options;
    const addresses = client.addresses.filter(({ family }) => families.includes(family));
    const own = addresses.length === 0 ? [] : await statics.claim({ clientId, connectionId, shard, addresses });
    this.#own.set(connectionId, own);
    const ownAddresses: TunnelAddress[] = [];
    for (const address of own) {
      ownAddresses.push({ ...address, nodeAddress: await this.#nodeAddress(wish, address.address.family) });
    }
    const others = families.filter((family) => !addresses.some((address) => address.family === family));
    const free = await this.#assign({ ...wish, families: others }, own.length > 0);
    const freeAddresses = free.addresses.map((held): TunnelAddress => ({ ...held, nodeAddress: nodeAddress(held) }));
    const all = [...ownAddresses, ...freeAddresses].sort((a, b) => a.address.family - b.address.family);
    return { addresses: all, save: free.save };
  }

  /** Gives back the addresses of a connection; its own ones may go elsewhere once `released` is called. */
  release(connectionId: string): BookChange {
    const own = this.#own.get(connectionId) ?? [];
    this.#own.delete(connectionId);
    const free = this.#options.book.release(connectionId);
    return { addresses: [...own, ...free.addresses], save: free.save };
  }

  /** The end of the connection is on disk, or there is nothing of it there. */
  released(connectionId: string): void {
    this.#options.statics.released(connectionId);
  }

  /** The first tunnel of a family may be one with an address of its own, for which no block came. */
  async #nodeAddress({ shard, client }: AddressWish, family: AddressFamily): Promise<IpAddress> {
    const { nodeAddressIn, moreAddresses } = this.#options;
    const known = nodeAddressIn(shard, family);
    if (known !== undefined) return known;
    const why = await moreAddresses(shard, client.pool, [family]);
    const address = nodeAddressIn(shard, family);
    if (address === undefined) throw new AddressesExhaustedError(family, why);
    return address;
  }

  async #assign(wish: AddressWish, hasOwn: boolean): Promise<BookChange> {
    if (wish.families.length === 0) return NOTHING;
    const first = this.#attempt(wish);
    if (!(first instanceof AddressesExhaustedError)) return first;
    const why = await this.#options.moreAddresses(wish.shard, wish.client.pool, wish.families);
    const second = this.#attempt(wish);
    if (!(second instanceof AddressesExhaustedError)) return second;
    // A pool without the other family: an address of its own is enough.
    if (hasOwn && second.family === undefined) return NOTHING;
    throw why === undefined ? second : new AddressesExhaustedError(second.family, why);
  }

  #attempt({ client, ...wish }: AddressWish): BookChange | AddressesExhaustedError {
    try {
      return this.#options.book.assign({ ...wish, pool: client.pool, clientId: client.clientId });
    } catch (error) {
      if (!(error instanceof AddressesExhaustedError)) throw error;
      return error;
    }
  }
}
