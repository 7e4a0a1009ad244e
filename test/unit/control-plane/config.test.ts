import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminTokensOf, parseControlPlaneConfig } from '../../../control-plane/config.ts';
import { ConfigError } from '../../../shared/config/parse-config.ts';

const required = { DATABASE_URL: 'postgres://u:p@localhost/vpn', ADMIN_TOKEN: '0123456789abcdef' };

test('defaults are the documented ones', () => {
  const config = parseControlPlaneConfig(required);
  assert.deepEqual(config.HTTP_LISTEN, { host: '127.0.0.1', port: 9090 });
  assert.equal(config.POOLS.length, 2);
  assert.equal(config.BLOCK_PREFIX_V4, 26);
  assert.equal(config.BLOCK_PREFIX_V6, 120);
  assert.equal(config.LEASE_SECONDS, 3600);
});

const wrong: ReadonlyArray<readonly [name: string, env: Record<string, string>]> = [
  ['DATABASE_URL', { DATABASE_URL: 'mysql://localhost' }],
  ['ADMIN_TOKEN', { ADMIN_TOKEN: 'short' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'ada' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'ada:short' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'admin:0123456789abcdefg' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'ada:0123456789abcdefg,bob:0123456789abcdefg' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'ada:0123456789abcdef' }],
  ['POOLS', { POOLS: '10.99.0.1/16' }],
  ['POOLS', { POOLS: ' , ' }],
  ['POOLS', { POOLS: '10.0.0.0/8,10.99.0.0/16' }],
  ['POOLS', { POOLS: '10.99.0.0/28' }],
  ['BLOCK_PREFIX_V4', { BLOCK_PREFIX_V4: '33' }],
  ['HTTP_LISTEN', { HTTP_LISTEN: 'localhost' }],
  ['LEASE_SECONDS', { LEASE_SECONDS: 'an hour' }],
];

for (const [name, env] of wrong) {
  test(`${name}=${Object.values(env)[0]} is refused by name`, () => {
    assert.throws(
      () => parseControlPlaneConfig({ ...required, ...env }),
      (error) => error instanceof ConfigError && error.message.startsWith(`${name}: got `),
    );
  });
}

test('a wrong secret is not repeated', () => {
  for (const env of [{ ADMIN_TOKEN: 'hunter2' }, { ADMIN_TOKENS: 'ada:hunter2' }]) {
    assert.throws(
      () => parseControlPlaneConfig({ ...required, ...env }),
      (error) => error instanceof ConfigError && !error.message.includes('hunter2'),
    );
  }
});

test('each admin token has a name, and one name may have two tokens', () => {
  const [ada, next] = ['ada:0123456789-of-ada', 'ada:0123456789-of-ada:next'];
  assert.deepEqual(adminTokensOf(parseControlPlaneConfig({ ...required, ADMIN_TOKENS: `${ada}, ${next}` })), [
    { name: 'admin', token: required.ADMIN_TOKEN },
    { name: 'ada', token: '0123456789-of-ada' },
    { name: 'ada', token: '0123456789-of-ada:next' },
  ]);
});
