import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { AdminToken } from './admin-tokens.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Name of the token that the request came with; empty on routes that need none. */
    actor: string;
  }
}

/**
 * Finds whose token a request bears, undefined for nobody's. Every token is compared, in a time that says nothing of which
 * one it was or how much of it was right.
 */
export function createAuthenticator(
  tokens: readonly AdminToken[],
): (authorization: string | undefined) => string | undefined {
  const known = tokens.map(({ name, token }) => ({ name, expected: digest(token) }));
  return (authorization) => {
    const token = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    // Digests are of one length whatever was sent, which timingSafeEqual requires.
    const got = digest(token ?? '');
    let actor: string | undefined;
    for (const { name, expected } of known) if (timingSafeEqual(got, expected)) actor = name;
    return token === undefined ? undefined : actor;
  };
}

/** Who asks, for the events that a request leads to. Throws TypeError on a route that needs no token. */
export function actorOf(request: Pick<FastifyRequest, 'actor'>): string {
  if (request.actor === '') throw new TypeError('a request without a token has no actor');
  return request.actor;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}
