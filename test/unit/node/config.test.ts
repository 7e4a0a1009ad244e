import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nodeVariables } from '../../../data-plane/config.ts';
import { encodeRouteAdvertisement, routeToPrefix } from '../../../data-plane/masque/route-advertisement.ts';
import { parseConfig } from '../../../shared/config/parse-config.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';

const good = {
  NODE_ID: 'node-a',
  NATS_URL: 'nats://user:secret-word@127.0.0.1:4222',
  TLS_CERT: '/cert.pem',
  TLS_KEY: '/key.pem',
  STATE_DIR: '/state',
};

test('five variables are enough', () => {
  const config = parseConfig(nodeVariables, good);
  assert.equal(config.LISTEN, '0.0.0.0:4433');
  assert.deepEqual(config.HTTP_LISTEN, { host: '127.0.0.1', port: 9091 });
  assert.deepEqual(config.ADVERTISE_ROUTES, ['0.0.0.0/0', '::/0']);
  assert.deepEqual(config.AUTHORITIES, []);
});

test('authorities are names or addresses, with the port where it is not 443', () => {
  const { AUTHORITIES } = parseConfig(nodeVariables, {
    ...good,
    AUTHORITIES: 'VPN.example:443, vpn.example:4433,192.0.2.1,[2001:db8::1]:4433',
  });
  assert.deepEqual(AUTHORITIES, ['vpn.example', 'vpn.example:4433', '192.0.2.1', '[2001:db8::1]:4433']);
});

test('each bad variable is named, with what it got and what it takes', () => {
  const bad: readonly (readonly [keyof typeof nodeVariables, string, RegExp])[] = [
    ['NODE_ID', 'control', /^NODE_ID: got "control", expected 1 to 63 of a-z/],
    ['NODE_ID', 'Node A', /^NODE_ID: got "Node A"/],
    ['NATS_URL', 'http://user:secret-word@h', /^NATS_URL: got "\(not shown\)", expected a URL that starts with nats:/],
    ['LISTEN', 'localhost:4433', /^LISTEN: got "localhost:4433", expected ip:port/],
    ['LISTEN', '0.0.0.0:99999', /^LISTEN: got/],
    ['LISTEN', '999.1.1.1:4433', /^LISTEN: got "999.1.1.1:4433", expected ip:port/],
    ['LISTEN', 'abc:4433', /^LISTEN: got "abc:4433", expected ip:port/],
    ['NATS_URL', 'nats://', /^NATS_URL: got "\(not shown\)", expected .* and a host/],
    ['TUN_NAME', '..', /^TUN_NAME: got "\.\.", expected an interface name of up to 15 bytes/],
    ['TUN_NAME', 'vpn%s', /^TUN_NAME: got "vpn%s", expected .* one %d/],
    ['TUN_NAME', 'äöüäöüäöü', /^TUN_NAME: got "äöüäöüäöü", expected .* 15 bytes/],
    ['TUN_NAME', 'name/with/slashes', /^TUN_NAME: got/],
    ['SHARDS', '65', /^SHARDS: got "65", expected a whole number from 1 to 64/],
    ['TUN_OFFLOAD', 'on', /^TUN_OFFLOAD: got "on", expected auto or off/],
    ['HTTP_LISTEN', '9091', /^HTTP_LISTEN: got "9091", expected host:port/],
    ['TUNNEL_MTU', '1500', /^TUNNEL_MTU: got "1500", expected a whole number from 1280 to 1406/],
    [
      'ADVERTISE_ROUTES',
      'fd00::/8,10.0.0.1/8',
      /^ADVERTISE_ROUTES: got "10.0.0.1\/8", expected comma-separated prefixes/,
    ],
    [
      'AUTHORITIES',
      'vpn.example,https://b',
      /^AUTHORITIES: got "https:\/\/b", expected comma-separated host or host:port/,
    ],
    ['AUTHORITIES', 'vpn.example:70000', /^AUTHORITIES: got/],
    ['AUTHORITIES', 'user@vpn.example', /^AUTHORITIES: got/],
    ['MAX_CONNECTIONS', '0', /^MAX_CONNECTIONS: got "0"/],
    ['TRAFFIC_WINDOW_MS', '10', /^TRAFFIC_WINDOW_MS: got "10"/],
    ['LOG_LEVEL', 'loud', /^LOG_LEVEL: got "loud"/],
  ];
  for (const [name, value, message] of bad) {
    assert.throws(
      () => parseConfig(nodeVariables, { ...good, [name]: value }),
      (error: Error) => message.test(error.message) && !error.message.includes('secret-word'),
      `${name}=${value}`,
    );
  }
  for (const name of Object.keys(good)) {
    assert.throws(() => parseConfig(nodeVariables, { ...good, [name]: undefined }), new RegExp(`${name}: got nothing`));
  }
});

test('whatever routes are configured, they can be advertised, and all of them are covered', () => {
  const route = fc
    .tuple(fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24', '0.0.0.0/0', '::/0', 'fd00::/8', 'fd00::/64'))
    .map(([text]) => text);
  fc.assert(
    fc.property(fc.array(route, { maxLength: 8 }), (routes) => {
      const { ADVERTISE_ROUTES } = parseConfig(nodeVariables, { ...good, ADVERTISE_ROUTES: routes.join(',') });
      const expected = routes.length === 0 ? ['0.0.0.0/0', '::/0'] : routes;
      encodeRouteAdvertisement(ADVERTISE_ROUTES.map((text) => routeToPrefix(parsePrefix(text))));
      for (const text of expected) {
        const { start, end } = routeToPrefix(parsePrefix(text));
        const covering = ADVERTISE_ROUTES.map((one) => routeToPrefix(parsePrefix(one))).filter(
          (one) => one.start.family === start.family && one.start.value <= start.value && one.end.value >= end.value,
        );
        assert.equal(covering.length, 1, `${text} in ${ADVERTISE_ROUTES}`);
      }
    }),
  );
});
