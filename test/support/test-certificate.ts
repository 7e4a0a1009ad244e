import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority, issueServerCertificate } from '../../deploy/local/certificate.ts';

/** PEM texts of a server's certificate and of the authority that it comes from. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** A certificate that browsers take by its hash is valid for 14 days at most. */
export async function issueTestCertificate(names: readonly string[], validDays?: number): Promise<TestCertificate> {
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-certificate-'));
  try {
    const authority = await createAuthority(directory);
    const issued = await issueServerCertificate(authority, directory, 'server', names, 'server', validDays);
    const cert = readFileSync(issued.certificateFile, 'utf8');
    return { cert, key: readFileSync(issued.keyFile, 'utf8'), ca: authority.certificate };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
