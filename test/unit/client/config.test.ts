import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseClientConfig } from '../../../data-plane/client/config.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

const URL = 'https://node-a.example:4433/.well-known/masque/ip/*/*/';

function setup(t: Parameters<typeof temporaryDirectory>[0]) {
  const ca = join(temporaryDirectory(t), 'ca.pem');
  writeFileSync(ca, '-----BEGIN CERTIFICATE-----\n');
  const good = ['--url', URL, '--ca', ca, '--token', 'secret-token'];
  const parse = (...more: string[]) => parseClientConfig([...good, ...more], {});
  const replaced = (name: string, value: string) =>
    parseClientConfig(
      good.map((word, i) => (good[i - 1] === name ? value : word)),
      {},
    );
  return { ca, good, parse, replaced };
}

test('url, token and authority are enough', (t) => {
  const { parse } = setup(t);
  const config = parse();
  assert.equal(config?.url.href, URL);
  assert.deepEqual(config?.connectTo, { host: 'node-a.example', port: 4433 });
  assert.deepEqual(
    [config?.mtu, config?.tun, config?.routes, config?.token, config?.transport],
    [1400, 'masque%d', undefined, 'secret-token', 'auto'],
  );
});

test('a URI template of RFC 9484 is a URL', (t) => {
  const { replaced } = setup(t);
  assert.ok(replaced('--url', 'https://node-a.example/.well-known/masque/ip/{target}/{ipproto}/'));
});

test('the token may come from the environment, where other users cannot see it', (t) => {
  const { ca } = setup(t);
  const config = parseClientConfig(['--url', URL, '--ca', ca], { MASQUE_VPN_TOKEN: 'from-env' });
  assert.equal(config?.token, 'from-env');
});

test('the port of https is 443, and an IPv6 host loses its brackets', (t) => {
  const { replaced, parse } = setup(t);
  assert.deepEqual(replaced('--url', 'https://[2001:db8::1]/')?.connectTo, { host: '2001:db8::1', port: 443 });
  assert.deepEqual(parse('--connect-to', '[::1]:9')?.connectTo, { host: '::1', port: 9 });
});

test('item 31 each bad argument is named, an MTU below that of IPv6 too, with what it got and what it takes', (t) => {
  const { parse, replaced, ca } = setup(t);
  const bad: readonly (readonly [() => unknown, RegExp])[] = [
    [
      () => replaced('--url', 'http://node-a.example/'),
      /^--url: got "http:\/\/node-a.example\/", expected an https URL/,
    ],
    [() => replaced('--url', 'nonsense'), /^--url: got "\(not shown\)", expected an https URL/],
    [() => replaced('--ca', '/nonexistent/ca.pem'), /^--ca: got "\/nonexistent\/ca.pem", expected a PEM file/],
    [() => replaced('--token', ''), /^--token: got nothing, expected the token, here or in MASQUE_VPN_TOKEN/],
    [() => replaced('--token', 'not a token'), /^--token: got "\(not shown\)", expected a bearer token/],
    [
      () => replaced('--url', 'https://node-a.example/{user}/'),
      /^--url: got "\(not shown\)", expected a URL of a CONNECT-IP/,
    ],
    [() => parse('--mtu', '1279'), /^--mtu: got "1279", expected a whole number from 1280 to 1406/],
    [() => parse('--mtu', '9000'), /^--mtu: got "9000"/],
    [() => parse('--tun-offload', 'on'), /^--tun-offload: got "on", expected auto or off/],
    [() => parse('--transport', 'quic'), /^--transport: got "quic", expected auto, http3 or http2/],
    [() => parse('--tun', 'a name that is too long'), /^--tun: got/],
    [() => parse('--connect-to', 'nowhere'), /^--connect-to: got "nowhere", expected host:port/],
    [() => parse('--routes', '10.0.0.1/8'), /^--routes: got "10.0.0.1\/8", expected comma-separated prefixes/],
    [() => parse('--cert', ca), /^--key: got nothing, expected --cert and --key together/],
    [() => parse('--key', ca), /^--cert: got nothing/],
    [
      () => parse('--status-file', '/nowhere/status'),
      /^--status-file: got "\/nowhere\/status", expected a file in a dir.*ENOENT/,
    ],
    [() => parse('--log-level', 'loud'), /^--log-level: got "loud"/],
    [() => parse('--verbose'), /^arguments: got .*--verbose/],
  ];
  for (const [run, message] of bad) {
    assert.throws(run, (error: Error & { code?: string }) => {
      assert.equal(error.code, 'BAD_CONFIG');
      assert.match(error.message, message);
      return true;
    });
  }
});

test('no message shows a token, in whatever argument it stands', (t) => {
  const { ca, replaced } = setup(t);
  const secret = 'sesame-0123456789';
  const runs: (() => unknown)[] = [
    () => replaced('--url', `http://node-a.example/?token=${secret}`),
    () => replaced('--url', `https://user:${secret}@node-a.example/`),
    () => parseClientConfig(['--url', URL, '--ca', ca, `--tokn=${secret}`], {}),
    () => parseClientConfig(['--url', URL, '--ca', ca, '--tokn', secret], {}),
    () => parseClientConfig(['--url', URL, '--ca', ca, '--token', 'x', secret], {}),
    () => parseClientConfig(['--token', secret, '--url', URL], {}),
  ];
  for (const run of runs) {
    assert.throws(run, (error: Error) => {
      assert.ok(!error.message.includes(secret), error.message);
      return true;
    });
  }
});

test('--help asks for nothing else', () => {
  assert.equal(parseClientConfig(['--help'], {}), undefined);
});
