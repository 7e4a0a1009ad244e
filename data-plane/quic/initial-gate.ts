import { randomBytes } from 'node:crypto';
import { connectionCloseFrame, encodeInitial } from './initial-packet.ts';
import { type ConnectionIds, initialToken, MAX_CONNECTION_ID_BYTES } from './packet-header.ts';
import type { GateState } from './quic-server-state.ts';
import { encodeRetry } from './retry-packet.ts';
import { checkRetryToken, mintRetryToken } from './retry-token.ts';
import { encodeVersionNegotiation } from './version-negotiation.ts';

/** Handshakes in flight from which on new clients must show that they receive at their address (ours). */
export const RETRY_FROM_HANDSHAKES = 100;
/** A datagram with a client's first packet has at least that many bytes (RFC 9000 14.1). */
const MIN_INITIAL_DATAGRAM_BYTES = 1200;
/** The connection id that a client makes up for the server has at least that many bytes (RFC 9000 7.2). */
const MIN_ORIGINAL_ID_BYTES = 8;
/** Answers that wait to be sent (ours); what comes beyond them in one batch gets none. */
const MAX_ANSWERS = 1_024;
/** The error of a client that comes back with a token of ours that is not, or no longer, good for it (RFC 9000 8.1.2, 20.1). */
const INVALID_TOKEN = 0x0b;

/** `retried` came with a token of ours; a packet that is not admitted may have been answered. */
export type GateVerdict = 'new' | 'retried' | 'refused';

/**
 * What a server says to packets that belong to no connection, before it keeps anything of them: which of them may begin one, and
 * the answers that need no state: Retry (RFC 9000 8.1.2), its refusal, and Version Negotiation (RFC 9000 6).
 */
export class InitialGate {
  readonly #retryKey: Uint8Array;
  readonly #retryFrom: number;
  #answers: { readonly packet: Uint8Array; readonly peer: string }[] = [];
  #retriesSent = 0;
  #versionsNegotiated = 0;
  readonly #tokensRefused = { expired: 0, another_address: 0 };

  constructor(retryKey: Uint8Array, retryFrom: number) {
    this.#retryKey = retryKey;
    this.#retryFrom = retryFrom;
  }

  get state(): GateState {
    const tokensRefused = { ...this.#tokensRefused };
    return { retriesSent: this.#retriesSent, tokensRefused, versionsNegotiated: this.#versionsNegotiated };
  }

  /** A packet of version 1 with a long header. `handshakes`: how many are in flight. */
  admit(
    bytes: Uint8Array,
    offset: number,
    length: number,
    ids: ConnectionIds,
    peer: string,
    handshakes: number,
  ): GateVerdict {
    if (length < MIN_INITIAL_DATAGRAM_BYTES || ids.destinationLength < MIN_ORIGINAL_ID_BYTES) return 'refused';
    const range = initialToken(bytes, offset, length, ids);
    if (range === undefined) return 'refused';
    const token = bytes.subarray(range.offset, range.offset + range.length);
    const verdict = checkRetryToken(this.#retryKey, token, peer, Date.now());
    switch (verdict) {
      case 'valid':
        return 'retried';
      case 'expired':
      case 'another_address':
        this.#tokensRefused[verdict]++;
        this.#close(bytes, ids, peer, INVALID_TOKEN);
        return 'refused';
      case 'unknown':
        if (handshakes < this.#retryFrom) return 'new';
        this.#retry(bytes, ids, peer);
        return 'refused';
      default:
        return verdict satisfies never;
    }
  }

  /** A packet of a version that we do not speak. */
  negotiateVersion(bytes: Uint8Array, length: number, ids: ConnectionIds, peer: string): void {
    // Shorter ones begin nothing in any version, and an answer could be longer than they are.
    if (length < MIN_INITIAL_DATAGRAM_BYTES) return;
    if (this.#answer(encodeVersionNegotiation(bytes, ids), peer)) this.#versionsNegotiated++;
  }

  /** Takes the answers that are ready. */
  flush(send: (bytes: Uint8Array, offset: number, length: number, peer: string) => void): void {
    if (this.#answers.length === 0) return;
    const answers = this.#answers;
    this.#answers = [];
    for (const { packet, peer } of answers) send(packet, 0, packet.length, peer);
  }

  #retry(bytes: Uint8Array, ids: ConnectionIds, peer: string): void {
    const { originalId, clientId } = idsOf(bytes, ids);
    const token = mintRetryToken(this.#retryKey, peer, originalId, Date.now());
    const packet = encodeRetry(clientId, originalId, randomBytes(MAX_CONNECTION_ID_BYTES), token);
    if (this.#answer(packet, peer)) this.#retriesSent++;
  }

  #close(bytes: Uint8Array, ids: ConnectionIds, peer: string, errorCode: number): void {
    const { originalId, clientId } = idsOf(bytes, ids);
    const frames = connectionCloseFrame(errorCode);
    const to = { keyId: originalId, destinationId: clientId, sourceId: originalId };
    this.#answer(encodeInitial({ from: 'server', ...to, frames }), peer);
  }

  #answer(packet: Uint8Array, peer: string): boolean {
    if (this.#answers.length >= MAX_ANSWERS) return false;
    this.#answers.push({ packet, peer });
    return true;
  }
}

/** The id that the client made up or was given for us, and its own. */
function idsOf(bytes: Uint8Array, { destinationOffset, destinationLength, sourceOffset, sourceLength }: ConnectionIds) {
  return {
    originalId: bytes.subarray(destinationOffset, destinationOffset + destinationLength),
    clientId: bytes.subarray(sourceOffset, sourceOffset + sourceLength),
  };
}
