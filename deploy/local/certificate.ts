import { isIP } from 'node:net';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { writePrivateFile } from './secret-file.ts';

const VALID_DAYS = 397;
/** Certificates are valid from a little before now, for machines whose clocks differ. */
const CLOCK_SKEW_MS = 3_600_000;
const DAY_MS = 86_400_000;

export interface CertificateAuthority {
  readonly name: string;
  readonly certificateFile: string;
  readonly certificate: string;
  readonly key: string;
}

export interface ServerCertificate {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** Makes an ECDSA P-256 authority and writes `<directory>/ca.pem`, and its key (mode 0600) to `ca.key`. */
export async function createAuthority(directory: string, name = 'masque-vpn local CA'): Promise<CertificateAuthority> {
  const made = await generate([{ name: 'commonName', value: name }], {
    ...common(),
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  const certificateFile = join(directory, 'ca.pem');
  writePrivateFile(certificateFile, made.cert);
  writePrivateFile(join(directory, 'ca.key'), made.private);
  return { name, certificateFile, certificate: made.cert, key: made.private };
}

/**
 * Makes a certificate for DNS names and IP addresses, the first of which is its common name, and writes
 * `<directory>/<fileName>.pem` and `.key` (mode 0600). It is for a TLS server, or for a client of one that wants one too.
 */
export async function issueServerCertificate(
  authority: CertificateAuthority,
  directory: string,
  fileName: string,
  names: readonly string[],
  purpose: 'server' | 'client' = 'server',
  validDays = VALID_DAYS,
): Promise<ServerCertificate> {
  const made = await generate([{ name: 'commonName', value: names[0] ?? fileName }], {
    ...common(validDays),
    ca: { key: authority.key, cert: authority.certificate },
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: purpose === 'server', clientAuth: purpose === 'client' },
      {
        name: 'subjectAltName',
        // The QUIC core of our client looks for the URL's host among the DNS names only, so addresses stand there too.
        altNames: names.flatMap((name) => [
          ...(isIP(name) ? [{ type: 7 as const, ip: name }] : []),
          { type: 2 as const, value: name },
        ]),
      },
    ],
  });
  const certificateFile = join(directory, `${fileName}.pem`);
  const keyFile = join(directory, `${fileName}.key`);
  writePrivateFile(certificateFile, made.cert);
  writePrivateFile(keyFile, made.private);
  return { certificateFile, keyFile };
}

function common(validDays = VALID_DAYS) {
  const now = Date.now();
  return {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notBeforeDate: new Date(now - CLOCK_SKEW_MS),
    notAfterDate: new Date(now + validDays * DAY_MS - CLOCK_SKEW_MS),
  } as const;
}
