import { createHash, X509Certificate } from 'node:crypto';
import { loadWebTransport } from '../../data-plane/webtransport/load-package.ts';

const loaded = await loadWebTransport();

/** The package's own client, which speaks WebTransport over HTTP/2; browsers do not. */
export const { WebTransport } = loaded.webTransport;

/** What makes it trust a server's certificate of at most 14 days, and take HTTP/2. */
export function clientOptions(cert: string) {
  return { serverCertificateHashes: [certificateHash(cert)], forceReliable: true };
}

/** As browsers take it too. */
export function certificateHash(cert: string): { algorithm: 'sha-256'; value: Uint8Array<ArrayBuffer> } {
  const value = createHash('sha256').update(new X509Certificate(cert).raw).digest();
  return { algorithm: 'sha-256', value: new Uint8Array(value) };
}
