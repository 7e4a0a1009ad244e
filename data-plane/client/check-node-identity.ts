import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';

/**
 * Why a certificate is not that of `host`, of the URL; undefined: it is. As with QUIC, the host has to be among the DNS names, also where it is an
 * IP address, and the subject's common name does not count.
 */
export function checkNodeIdentity(host: string, certificate: PeerCertificate): Error | undefined {
  if (isIP(host) === 0)
    return checkServerIdentity(host, { ...certificate, subject: { ...certificate.subject, CN: '' } });
  const names = (certificate.subjectaltname ?? '').split(', ');
  return names.includes(`DNS:${host}`) ? undefined : new Error(`${host} is not among its DNS names`);
}
