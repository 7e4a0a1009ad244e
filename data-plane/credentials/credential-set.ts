import { createHash } from 'node:crypto';
import { type IpAddress, parseAddress } from '../../shared/ip/address.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import type { Credential } from '../../shared/nats/messages.ts';
import type { StoredCredential } from './credential-table.ts';

/** What a message about a client changed: what is to be stored, and whether the client's tunnels must be closed. */
export interface CredentialChange {
  readonly stored: StoredCredential;
  readonly revoked: boolean;
}

/** A client, the pool that its addresses come from, and those that are its own: one of each family at most. */
export interface KnownClient {
  readonly clientId: string;
  readonly pool: string;
  readonly addresses: readonly IpAddress[];
}

/** The credentials that a node knows. It never goes back: neither to an older version, nor from revoked to active. */
export class CredentialSet {
  readonly #byClient = new Map<string, StoredCredential>();
  readonly #byHash = new Map<string, string>();

  constructor(stored: readonly StoredCredential[]) {
    for (const credential of stored) this.#keep(credential);
  }

  get size(): number {
    return this.#byClient.size;
  }

  /**
   * The client of a bearer token. The lookup compares hashes in whatever time it takes: who guesses tokens learns at most
   * how far SHA-256 of the guess agrees with a stored hash, and cannot choose a token by its hash.
   */
  authenticate(token: string): KnownClient | undefined {
    const clientId = this.#byHash.get(createHash('sha256').update(token).digest('hex'));
    const known = clientId === undefined ? undefined : this.#byClient.get(clientId);
    if (known === undefined) return undefined;
    const { pool = DEFAULT_POOL } = known;
    return { clientId: known.clientId, pool, addresses: this.addressesOf(known.clientId) };
  }

  /** The addresses that are a client's own. */
  addressesOf(clientId: string): IpAddress[] {
    const known = this.#byClient.get(clientId);
    return known?.state === 'active' ? (known.addresses ?? []).map(parseAddress) : [];
  }

  /** An entry of the bucket. Undefined when it changes nothing: it is known, or older than what is known. */
  put(credential: Credential): CredentialChange | undefined {
    const known = this.#byClient.get(credential.clientId);
    if (known !== undefined) {
      const returns = known.state === 'deleted' && credential.version === known.version;
      if (credential.version <= known.version && !returns) return undefined;
    }
    this.#keep(credential);
    return { stored: credential, revoked: credential.state === 'revoked' && known?.state !== 'revoked' };
  }

  /** The entry was taken out of the bucket: the client is not known any more, and one that was revoked stays revoked. */
  delete(clientId: string): CredentialChange | undefined {
    const known = this.#byClient.get(clientId);
    if (known?.state !== 'active') return undefined;
    const stored: StoredCredential = { ...known, state: 'deleted' };
    this.#keep(stored);
    return { stored, revoked: true };
  }

  #keep(credential: StoredCredential): void {
    const { clientId, tokenSha256 } = credential;
    const known = this.#byClient.get(clientId);
    if (known !== undefined && this.#byHash.get(known.tokenSha256) === clientId) this.#byHash.delete(known.tokenSha256);
    this.#byClient.set(clientId, credential);
    if (credential.state === 'active') this.#byHash.set(tokenSha256, clientId);
  }
}
