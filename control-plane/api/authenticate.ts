import { createHash, timingSafeEqual } from 'node:crypto';

/** Compares the bearer token of a request with the admin token in a time that says nothing of how much of it was right. */
export function createAuthenticator(adminToken: string): (authorization: string | undefined) => boolean {
  const expected = digest(adminToken);
  return (authorization) => {
    const token = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    // Digests are of one length whatever was sent, which timingSafeEqual requires.
    return timingSafeEqual(digest(token ?? ''), expected) && token !== undefined;
  };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}
