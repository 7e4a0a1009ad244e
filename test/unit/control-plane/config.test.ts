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
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'configuration:0123456789abcdefg' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'Control-Plane:0123456789abcdefg' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'ada:0123456789abcdefg,bob:0123456789abcdefg' }],
  ['ADMIN_TOKENS', { ADMIN_TOKENS: 'ada:0123456789abcdef' }],
  ['POOLS', { POOLS: '10.99.0.1/16' }],
  ['POOLS', { POOLS: ' , ' }],
  ['POOLS', { POOLS: '10.0.0.0/8,10.99.0.0/16' }],
  ['POOLS', { POOLS: '10.99.0.0/28' }],
  ['POOLS', { POOLS: Array.from({ length: 1_001 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`).join() }],
  ['BLOCK_PREFIX_V4', { BLOCK_PREFIX_V4: '33' }],
  ['HTTP_LISTEN', { HTTP_LISTEN: 'localhost' }],
  ['LEASE_SECONDS', { LEASE_SECONDS: 'an hour' }],
];

for (const [name, env] of wrong) {
  test(`${name}=${Object.values(env)[0]?.slice(0, 60)} is refused by name`, () => {
    assert.throws(
      () => parseControlPlaneConfig({ ...required, ...env }),
      (error) => error instanceof ConfigError && error.message.startsWith(`${name}: got `),
    );
  });
}

function refusalOf(env: Record<string, string>): string {
  try {
    parseControlPlaneConfig({ ...required, ...env });
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message;
  }
  return 'not refused';
}

test('a network that clients cannot have addresses of is refused with the reason, wherever it lies', () => {
  for (const [network, why] of [
    ['0.0.0.0/0', '0.0.0.0/8 is "this network"'],
    ['0.1.0.0/16', '0.0.0.0/8 is "this network"'],
    ['127.0.0.0/24', '127.0.0.0/8 is loopback'],
    ['126.0.0.0/7', '127.0.0.0/8 is loopback'],
    ['169.254.10.0/24', '169.254.0.0/16 is link-local'],
    ['239.1.0.0/16', '224.0.0.0/4 is multicast'],
    ['255.255.0.0/16', '240.0.0.0/4 is reserved'],
    ['::/64', '::/127 is unspecified and loopback'],
    ['::ffff:10.99.0.0/112', '::ffff:0:0/96 is IPv4-mapped'],
    ['fe80::/64', 'fe80::/10 is link-local'],
    ['ff02::/64', 'ff00::/8 is multicast'],
  ] as const) {
    const refusal = refusalOf({ POOLS: `10.99.0.0/16, ${network}` });
    assert.match(refusal, /^POOLS: got ".*", expected networks that clients can have addresses of; /, network);
    assert.ok(refusal.endsWith(`; ${why}`), refusal);
  }
});

test('of several networks the one that is wrong is named', () => {
  const expected = 'expected comma-separated prefixes, host bits zero, that do not overlap';
  for (const [network, got] of [
    ['10.98.0.1/16', '10.98.0.1/16'],
    ['10.98.0.0', '10.98.0.0'],
    ['10.98.0.0/33', '10.98.0.0/33'],
    ['fd00:98::1/64', 'fd00:98::1/64'],
    [`${'9'.repeat(200)}/8`, `${'9'.repeat(100)}…`],
  ] as const) {
    const refusal = refusalOf({ POOLS: `10.99.0.0/16,${network},fd00:99::/64` });
    assert.ok(refusal.startsWith(`POOLS: got "${got}", ${expected}`), refusal);
  }
});

test('blocks that do not fit into a network are blamed where somebody chose them, and the network where not', () => {
  for (const [env, refusal] of [
    [
      { BLOCK_PREFIX_V4: '15' },
      'BLOCK_PREFIX_V4: got "15", expected a whole number from 16 to 30, since POOLS has 10.99.0.0/16',
    ],
    [
      { BLOCK_PREFIX_V6: '48' },
      'BLOCK_PREFIX_V6: got "48", expected a whole number from 64 to 126, since POOLS has fd00:99::/64',
    ],
    [
      { POOLS: '10.99.0.0/28', BLOCK_PREFIX_V4: '27' },
      'BLOCK_PREFIX_V4: got "27", expected a whole number from 28 to 30, since POOLS has 10.99.0.0/28',
    ],
    [
      { POOLS: '10.99.0.0/28' },
      'POOLS: got "10.99.0.0/28", expected prefixes of at most /26, the length in BLOCK_PREFIX_V4',
    ],
    [
      { POOLS: '10.99.0.0/31', BLOCK_PREFIX_V4: '30' },
      'POOLS: got "10.99.0.0/31", expected prefixes of at most /30, the length in BLOCK_PREFIX_V4',
    ],
  ] as const) {
    assert.equal(refusalOf(env), refusal);
  }
});

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
