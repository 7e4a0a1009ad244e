import assert from 'node:assert/strict';
import { copyFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { generate } from 'selfsigned';
import { readTlsIdentity, type TlsFiles } from '../../../data-plane/tls/tls-identity.ts';
import { TlsReloader } from '../../../data-plane/tls/tls-reloader.ts';
import { createAuthority, issueServerCertificate, type ServerCertificate } from '../../../deploy/local/certificate.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

/** A node's files, as certbot leaves them: links into the directory of the certificate that is live. */
class Certificates {
  readonly directory: string;
  readonly files: TlsFiles;
  readonly reloader: TlsReloader;
  readonly renewed: string[] = [];
  readonly log: string[] = [];
  readonly #issued: readonly ServerCertificate[];

  static async create(t: TestContext): Promise<Certificates> {
    const directory = temporaryDirectory(t);
    const authority = await createAuthority(directory);
    const issue = (name: string) => issueServerCertificate(authority, directory, name, ['node-a.test']);
    return new Certificates(directory, [await issue('one'), await issue('two')]);
  }

  private constructor(directory: string, issued: readonly ServerCertificate[]) {
    this.directory = directory;
    this.#issued = issued;
    this.files = { TLS_CERT: join(directory, 'live.pem'), TLS_KEY: join(directory, 'live.key'), CLIENT_CA: '' };
    this.link(0);
    this.reloader = new TlsReloader({
      files: this.files,
      identity: readTlsIdentity(this.files),
      log: pino({ base: null }, { write: (line: string) => this.log.push(JSON.parse(line).msg) }),
      onRenewed: ({ cert }) => this.renewed.push(cert),
    });
  }

  text(number: number): string {
    return readTlsIdentity({ ...this.files, ...this.paths(number) }).cert;
  }

  paths(number: number): { TLS_CERT: string; TLS_KEY: string } {
    const { certificateFile, keyFile } = this.#issued[number]!;
    return { TLS_CERT: certificateFile, TLS_KEY: keyFile };
  }

  /** Swaps both links. */
  link(number: number): void {
    for (const name of ['TLS_CERT', 'TLS_KEY'] as const) {
      symlinkSync(this.paths(number)[name], `${this.files[name]}.new`);
      renameSync(`${this.files[name]}.new`, this.files[name]);
    }
  }

  counts(): readonly [renewed: number, refused: number] {
    const { renewed, refused } = this.reloader.state;
    return [renewed, refused];
  }
}

test('a swapped link, a file that was renamed over, and one that was written in place are all found', async (t) => {
  const certificates = await Certificates.create(t);
  const { reloader, files, renewed } = certificates;
  reloader.check(false);
  assert.deepEqual(renewed, []);
  certificates.link(1);
  reloader.check(false);
  for (const name of ['TLS_CERT', 'TLS_KEY'] as const) {
    rmSync(files[name]);
    copyFileSync(certificates.paths(0)[name], `${files[name]}.new`);
    renameSync(`${files[name]}.new`, files[name]);
  }
  reloader.check(false);
  for (const name of ['TLS_CERT', 'TLS_KEY'] as const) copyFileSync(certificates.paths(1)[name], files[name]);
  reloader.check(false);
  assert.deepEqual(
    renewed,
    [1, 0, 1].map((number) => certificates.text(number)),
  );
  reloader.check(false);
  assert.deepEqual(certificates.counts(), [3, 0]);
});

test('files that are written one after the other are taken when both are there, without a word', async (t) => {
  const certificates = await Certificates.create(t);
  const { reloader, files, log } = certificates;
  for (const name of ['TLS_CERT', 'TLS_KEY'] as const) {
    rmSync(files[name]);
    copyFileSync(certificates.paths(1)[name], files[name]);
    reloader.check(false);
  }
  assert.deepEqual(certificates.counts(), [1, 0]);
  assert.deepEqual(log, ['new connections get the renewed certificate']);
});

test('what cannot be used is told once, with the reason, and again when somebody asks; the old one stays', async (t) => {
  const certificates = await Certificates.create(t);
  const { reloader, files, log, renewed } = certificates;
  const told = 'the certificate on disk cannot be used, the old one stays in use: ';
  const broken: readonly (readonly [() => void, RegExp])[] = [
    [() => symlinkSync(certificates.paths(1).TLS_KEY, files.TLS_KEY), /TLS_KEY: got ".*", expected the key of the/],
    [() => writeFileSync(files.TLS_KEY, 'nothing'), /TLS_KEY: got ".*", expected a PEM file with a private key/],
    [() => {}, /TLS_KEY: got ".*", expected a PEM file .*ENOENT/],
  ];
  for (const [index, [breakIt, reason]] of broken.entries()) {
    rmSync(files.TLS_KEY);
    breakIt();
    for (let i = 0; i < 5; i++) reloader.check(false);
    assert.equal(log.length, 2 * index + 1);
    assert.ok(log.at(-1)?.startsWith(told));
    assert.match(log.at(-1) ?? '', reason);
    reloader.check(true);
    assert.equal(log.length, 2 * index + 2);
    if (index < 2) continue;
    symlinkSync(certificates.paths(0).TLS_KEY, files.TLS_KEY);
  }
  reloader.check(true);
  assert.equal(log.at(-1), 'the certificate on disk is the one in use');
  assert.deepEqual(renewed, []);
  assert.deepEqual(certificates.counts(), [0, 6]);
});

test('a certificate that has ended, or has not begun, is not taken', async (t) => {
  const certificates = await Certificates.create(t);
  const { reloader, log, renewed } = certificates;
  const { end } = reloader.state;
  certificates.link(1);
  t.mock.timers.enable({ apis: ['Date'], now: end.getTime() + 3_600_000 });
  reloader.check(true);
  assert.match(log.at(-1) ?? '', /TLS_CERT: got ".*", expected one that ends later than/);
  t.mock.timers.setTime(0);
  reloader.check(true);
  assert.match(log.at(-1) ?? '', /TLS_CERT: got ".*", expected one that begins before/);
  assert.deepEqual(renewed, []);
  t.mock.timers.reset();
  reloader.check(false);
  assert.deepEqual(renewed, [certificates.text(1)]);
});

test('a certificate that OpenSSL does not take is not taken, whatever the QUIC core says: HTTP/2 could not live with it', async (t) => {
  const certificates = await Certificates.create(t);
  const { reloader, files, log } = certificates;
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'node-a.test' }], {
    keyType: 'rsa',
    keySize: 1_024,
    algorithm: 'sha256',
  });
  for (const [name, pem] of [
    ['TLS_CERT', cert],
    ['TLS_KEY', key],
  ] as const) {
    rmSync(files[name]);
    writeFileSync(files[name], pem);
  }
  reloader.check(true);
  assert.match(log.at(-1) ?? '', /TLS_CERT: got ".*", expected one that OpenSSL takes/);
  assert.deepEqual(certificates.counts(), [0, 1]);
});
