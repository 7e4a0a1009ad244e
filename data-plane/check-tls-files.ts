import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ConfigError } from '../shared/config/parse-config.ts';
import type { NodeConfig } from './config.ts';

/** Throws ConfigError unless certificate and key are there and belong together: the QUIC core would not say which is wrong. */
export function checkTlsFiles(config: Pick<NodeConfig, 'TLS_CERT' | 'TLS_KEY' | 'CLIENT_CA'>): void {
  const { TLS_CERT, TLS_KEY, CLIENT_CA } = config;
  const certificate = readCertificate('TLS_CERT', TLS_CERT);
  const key = readKey('TLS_KEY', TLS_KEY);
  if (!certificate.checkPrivateKey(key))
    throw new ConfigError('TLS_KEY', TLS_KEY, 'the key of the certificate in TLS_CERT');
  if (CLIENT_CA !== '') readCertificate('CLIENT_CA', CLIENT_CA);
}

function readCertificate(name: string, path: string): X509Certificate {
  const expected = 'a PEM file with a certificate';
  const text = read(name, path, expected);
  try {
    return new X509Certificate(text);
  } catch {
    throw new ConfigError(name, path, expected);
  }
}

function readKey(name: string, path: string): KeyObject {
  const expected = 'a PEM file with a private key without passphrase';
  const text = read(name, path, expected);
  try {
    return createPrivateKey(text);
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
