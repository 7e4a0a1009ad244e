import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { createAuthority, issueServerCertificate } from '../../../deploy/local/certificate.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

test('a certificate is good for its names and addresses, for clients that know the authority', async (t) => {
  const directory = temporaryDirectory(t);
  const authority = await createAuthority(directory);
  const names = ['node-a.example', '127.0.0.1', '2001:db8::2'];
  const { certificateFile, keyFile } = await issueServerCertificate(authority, directory, 'node-a', names);
  const cert = readFileSync(certificateFile, 'utf8');
  const x509 = new X509Certificate(cert);
  assert.ok(x509.verify(new X509Certificate(authority.certificate).publicKey));
  assert.equal(x509.checkHost('node-a.example'), 'node-a.example');
  assert.equal(x509.checkHost('node-b.example'), undefined);
  assert.equal(x509.checkIP('2001:db8::2'), '2001:db8::2');
  assert.equal(x509.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  for (const file of [keyFile, join(directory, 'ca.key')]) assert.equal(statSync(file).mode & 0o777, 0o600);

  const server = createServer({ cert, key: readFileSync(keyFile) }, (socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const authorized = await new Promise<boolean>((resolve, reject) => {
    const socket: TLSSocket = connect({ host: '127.0.0.1', port, ca: authority.certificate }, () => {
      resolve(socket.authorized);
      socket.destroy();
    });
    socket.once('error', reject);
  });
  assert.ok(authorized);
});
