import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { controlPlaneVariables } from '../../../control-plane/config.ts';
import { CLIENT_USAGE } from '../../../data-plane/client/config.ts';
import { nodeVariables } from '../../../data-plane/config.ts';
import { createAuthority, issueServerCertificate } from '../../../deploy/local/certificate.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { CLIENT, CONTROL_PLANE, NODE, runMain } from './run-process.ts';

const SECRET = 'sesame-0123456789';
const EXIT_BAD_CONFIG = 2;

/** Ends with code 2, one line on standard error that fits, nothing else, and no secret. */
function assertRefused({ status, stdout, stderr }: ReturnType<typeof runMain>, line: RegExp): void {
  assert.equal(status, EXIT_BAD_CONFIG, stderr);
  assert.equal(stdout, '');
  assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  assert.match(stderr, line);
  assert.ok(!stderr.includes(SECRET), stderr);
}

test('the control plane names the variable, what it got and what it takes', () => {
  const good = { DATABASE_URL: `postgres://u:${SECRET}@127.0.0.1:1/vpn`, ADMIN_TOKEN: `${SECRET}-admin` };
  const name = 'masque-vpn control plane: ';
  for (const [change, line] of [
    [{ DATABASE_URL: '' }, `${name}DATABASE_URL: got (""|nothing), expected a URL that starts with postgres:`],
    [{ DATABASE_URL: `mysql://u:${SECRET}@h/d` }, `${name}DATABASE_URL: got "\\(not shown\\)", expected a URL`],
    [{ ADMIN_TOKEN: `${SECRET} with blanks` }, `${name}ADMIN_TOKEN: got "\\(not shown\\)", expected at least 16`],
    [
      { NATS_URL: `http://u:${SECRET}@h` },
      `${name}NATS_URL: got "\\(not shown\\)", expected a URL that starts with nats:`,
    ],
    [{ HTTP_LISTEN: '9090' }, `${name}HTTP_LISTEN: got "9090", expected host:port`],
    [{ POOLS: '10.99.0.1/16' }, `${name}POOLS: got "10.99.0.1/16", expected comma-separated prefixes`],
    [{ POOLS: '10.0.0.0/8,10.99.0.0/16' }, `${name}POOLS: got "10.99.0.0/16", expected a prefix that does not overlap`],
    [{ BLOCK_PREFIX_V4: '15' }, `${name}BLOCK_PREFIX_V4: got "15", expected a whole number from 16 to 30`],
  ] as const) {
    assertRefused(runMain(CONTROL_PLANE, { ...good, ...change }), new RegExp(`^${line}`));
  }
});

test('a node does', () => {
  const good = {
    NODE_ID: 'node-a',
    NATS_URL: `nats://u:${SECRET}@127.0.0.1:1`,
    TLS_CERT: '/cert',
    TLS_KEY: '/key',
    STATE_DIR: '/state',
  };
  const name = 'masque-vpn node: ';
  for (const [change, line] of [
    [{ NODE_ID: '' }, `${name}NODE_ID: got (""|nothing), expected 1 to 63`],
    [{ NATS_URL: `nuts://u:${SECRET}@h` }, `${name}NATS_URL: got "\\(not shown\\)", expected a URL`],
    [{ LISTEN: 'example.com:4433' }, `${name}LISTEN: got "example.com:4433", expected ip:port`],
    [{ TUNNEL_MTU: '65536' }, `${name}TUNNEL_MTU: got "65536", expected a whole number from 1280 to 1406`],
    [{ ADVERTISE_ROUTES: 'everywhere' }, `${name}ADVERTISE_ROUTES: got "everywhere", expected comma-separated`],
  ] as const) {
    assertRefused(runMain(NODE, { ...good, ...change }), new RegExp(`^${line}`));
  }
});

test('a node names the certificate or the key that it cannot use', async (t) => {
  const directory = temporaryDirectory(t);
  const authority = await createAuthority(directory);
  const { certificateFile: cert, keyFile: key } = await issueServerCertificate(authority, directory, 'one', ['a.test']);
  const other = await issueServerCertificate(authority, directory, 'two', ['b.test']);
  const garbage = join(directory, 'garbage.pem');
  writeFileSync(garbage, SECRET);
  const env = { NODE_ID: 'node-a', NATS_URL: 'nats://127.0.0.1:1', STATE_DIR: directory, TLS_CERT: cert, TLS_KEY: key };
  for (const [change, line] of [
    [{ TLS_CERT: '/nowhere.pem' }, /TLS_CERT: got "\/nowhere.pem", expected a PEM file with a certificate \(ENOENT/],
    [{ TLS_CERT: garbage }, /TLS_CERT: got ".*garbage.pem", expected a PEM file with a certificate;/],
    [{ TLS_KEY: '/nowhere.key' }, /TLS_KEY: got "\/nowhere.key", expected a PEM file with a private key/],
    [{ TLS_KEY: garbage }, /TLS_KEY: got ".*garbage.pem", expected a PEM file with a private key/],
    [{ TLS_KEY: other.keyFile }, /TLS_KEY: got ".*two.key", expected the key of the certificate in TLS_CERT/],
    [{ CLIENT_CA: garbage }, /CLIENT_CA: got ".*garbage.pem", expected a PEM file with a certificate/],
  ] as const) {
    assertRefused(runMain(NODE, { ...env, ...change }), line);
  }
});

test('a node names the state directory that it cannot make', async (t) => {
  const directory = temporaryDirectory(t);
  const authority = await createAuthority(directory);
  const { certificateFile: cert, keyFile: key } = await issueServerCertificate(authority, directory, 'one', ['a.test']);
  const env = { NODE_ID: 'node-a', NATS_URL: 'nats://127.0.0.1:1', TLS_CERT: cert, TLS_KEY: key };
  for (const path of ['/proc/masque-vpn', `${cert}/state`]) {
    const line = new RegExp(
      `^masque-vpn node: STATE_DIR: got "${path.slice(0, 50)}.*", expected a directory that it can make and write \\(ENO`,
    );
    assertRefused(runMain(NODE, { ...env, STATE_DIR: path }), line);
  }
});

test('a client names the argument', (t) => {
  const ca = join(temporaryDirectory(t), 'ca.pem');
  writeFileSync(ca, '-----BEGIN CERTIFICATE-----\n');
  const env = { MASQUE_VPN_TOKEN: SECRET };
  const name = 'masque-vpn client: ';
  const url = 'https://vpn.example/';
  for (const [args, line] of [
    [[], `${name}--url: got nothing, expected an https URL`],
    [
      ['--url', `http://vpn.example/?token=${SECRET}`],
      `${name}--url: got "http://vpn.example/", expected an https URL`,
    ],
    [['--url', url, '--ca', '/nowhere.pem'], `${name}--ca: got "/nowhere.pem", expected a PEM file that can be read`],
    [['--url', url, '--ca', ca, '--mtu', '100'], `${name}--mtu: got "100", expected a whole number from 1280`],
    [
      ['--url', url, '--ca', ca, SECRET],
      `${name}arguments: got "\\(not shown\\)", expected one of --url, --token, --ca`,
    ],
  ] as const) {
    assertRefused(runMain(CLIENT, env, args), new RegExp(`^${line}`));
  }
  assertRefused(runMain(CLIENT, {}, ['--url', url, '--ca', ca]), /--token: got nothing, expected the token/);
});

test('a control plane and a node take no argument but --help', () => {
  for (const [file, name] of [
    [CONTROL_PLANE, 'control plane'],
    [NODE, 'node'],
  ] as const) {
    const refused = runMain(file, {}, ['--port', '1']);
    assertRefused(
      refused,
      new RegExp(`^masque-vpn ${name}: arguments: got "--port", expected one of --help; help: node .*main.ts`),
    );
  }
});

test('--help of each lists what it takes, on standard output, and asks for nothing', () => {
  for (const [file, names] of [
    [CONTROL_PLANE, Object.keys(controlPlaneVariables)],
    [NODE, Object.keys(nodeVariables)],
    [CLIENT, [...CLIENT_USAGE.matchAll(/--[a-z-]+/g)].map(([name]) => name)],
  ] as const) {
    const { status, stdout, stderr } = runMain(file, {}, ['--help']);
    assert.deepEqual([status, stderr], [0, '']);
    for (const name of names) assert.ok(stdout.includes(name), `${file}: ${name}`);
  }
});
