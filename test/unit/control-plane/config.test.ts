import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseControlPlaneConfig } from '../../../control-plane/config.ts';
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
  assert.throws(
    () => parseControlPlaneConfig({ ...required, ADMIN_TOKEN: 'hunter2' }),
    (error) => error instanceof ConfigError && !error.message.includes('hunter2'),
  );
});
