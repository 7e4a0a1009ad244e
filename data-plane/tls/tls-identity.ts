import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { ConfigError } from '../../shared/config/parse-config.ts';
import { QuicEndpoint } from '../quic/quic-endpoint.ts';

/** Where a node's certificate is: the variables' names and paths. */
export interface TlsFiles {
  readonly TLS_CERT: string;
  readonly TLS_KEY: string;
  /** Empty where clients need no certificate. */
  readonly CLIENT_CA: string;
}

/** Who a node is to its clients, as PEM texts. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
}

/** Throws ConfigError unless certificate and key are there and belong together: the QUIC core would not say which is wrong. */
export function readTlsIdentity({ TLS_CERT, TLS_KEY, CLIENT_CA }: TlsFiles): TlsIdentity {
  const [cert, certificate] = readCertificate('TLS_CERT', TLS_CERT);
  const [key, privateKey] = readKey('TLS_KEY', TLS_KEY);
  if (!certificate.checkPrivateKey(privateKey))
    throw new ConfigError('TLS_KEY', TLS_KEY, 'the key of the certificate in TLS_CERT');
  return { cert, key, clientCa: CLIENT_CA === '' ? undefined : readCertificate('CLIENT_CA', CLIENT_CA)[0] };
}

/**
 * Throws ConfigError when the certificate is not valid at `now` or OpenSSL does not take it (HTTP/2), and QuicConfigError when the QUIC core does
 * not: all that can be wrong with an identity is known before anything depends on it. Takes some 20 ms.
 */
export function checkTlsIdentity({ cert, key, clientCa }: TlsIdentity, { TLS_CERT }: TlsFiles, now: Date): void {
  const { validFromDate, validToDate } = new X509Certificate(cert);
  if (now > validToDate) throw new ConfigError('TLS_CERT', TLS_CERT, `one that ends later than ${text(validToDate)}`);
  if (now < validFromDate) throw new ConfigError('TLS_CERT', TLS_CERT, `one that begins before ${text(validFromDate)}`);
  try {
    createSecureContext({ cert, key, ...(clientCa !== undefined && { ca: clientCa }) });
  } catch (error) {
    throw new ConfigError(
      'TLS_CERT',
      TLS_CERT,
      `one that OpenSSL takes (${error instanceof Error ? error.message : ''})`,
    );
  }
  const nothing = {
    onConnection() {},
    onHandshakeComplete() {},
    onStreamData() {},
    onStreamReset() {},
    onDatagram() {},
    onClosed() {},
  };
  const authority = clientCa === undefined ? {} : { clientCa };
  const options = { role: 'server', cert, key, ...authority, localAddress: '127.0.0.1:1', maxConnections: 1 } as const;
  new QuicEndpoint(options, nothing, () => {}).free();
}

export function certificateEnd({ cert }: TlsIdentity): Date {
  return new X509Certificate(cert).validToDate;
}

const text = (date: Date): string => date.toISOString();

function readCertificate(name: string, path: string): [string, X509Certificate] {
  const expected = 'a PEM file with a certificate';
  const pem = read(name, path, expected);
  try {
    return [pem, new X509Certificate(pem)];
  } catch {
    throw new ConfigError(name, path, expected);
  }
}

function readKey(name: string, path: string): [string, KeyObject] {
  const expected = 'a PEM file with a private key without passphrase';
  const pem = read(name, path, expected);
  try {
    return [pem, createPrivateKey(pem)];
  } catch {
    throw new ConfigError(name, path, expected);
  }
}

function read(name: string, path: string, expected: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(name, path, `${expected} (${error instanceof Error ? error.message : ''})`);
  }
}
