import { createHash, randomBytes } from 'node:crypto';

/** So that a token found in a file or a log can be told for what it is. */
export const TOKEN_PREFIX = 'mvpn_';
/** 256 bits (ours): nobody guesses it, so one round of SHA-256 is enough to store it. */
const TOKEN_BYTES = 32;

/** A new bearer token: prefix and base64url. It is shown once and kept nowhere. */
export function createClientToken(): string {
  return TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url');
}

/** SHA-256 of the whole token, prefix included, hexadecimal: what is stored and given to the nodes. */
export function hashClientToken(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('hex');
}
