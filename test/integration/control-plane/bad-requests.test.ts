import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { needsBinary } from '../../support/requirements.ts';
import {
  ADMIN_TOKEN,
  type ControlPlane,
  createControlPlane,
  startServers,
  type TestServers,
} from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const NO_CONNECTION = '00000000-0000-4000-8000-000000000000';
const SECRET = 'sesame-0123456789';

let servers: TestServers;
let controlPlane: ControlPlane;

before(async () => {
  if (skip) return;
  servers = await startServers();
  controlPlane = await createControlPlane(servers);
  await controlPlane.service.start();
});

after(async () => {
  if (skip) return;
  await controlPlane?.service.stop();
  await servers?.stop();
});

/** Sends a body as it is. */
async function send(method: string, path: string, body: string | undefined, contentType = 'application/json') {
  const headers = {
    authorization: `Bearer ${ADMIN_TOKEN}`,
    ...(body === undefined ? {} : { 'content-type': contentType }),
  };
  const response = await fetch(`${controlPlane.url}${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body }),
  });
  assert.equal(response.headers.get('content-type'), 'application/problem+json; charset=utf-8');
  return { headers: response.headers, body: (await response.json()) as Record<string, unknown> };
}

test('a field that is not allowed is named, with what it was and what is allowed', { skip }, async () => {
  const [id, name] = ['1 to 63 of a-z, 0-9, ".", "_" and "-"', 'text of 1 to 200 characters, no control characters'];
  const cases: ReadonlyArray<readonly [method: string, path: string, body: unknown, field: string, detail: string]> = [
    ['POST', '/v1/clients', { id: 'Not An Id' }, 'id', `body id: got "Not An Id", expected ${id}`],
    ['POST', '/v1/clients', { id: 'two..dots' }, 'id', `body id: got "two..dots", expected ${id}`],
    ['POST', '/v1/clients', { id: 'x'.repeat(1_000) }, 'id', `body id: got "${'x'.repeat(100)}…", expected ${id}`],
    ['POST', '/v1/clients', { id: null }, 'id', `body id: got null, expected ${id}`],
    ['POST', '/v1/clients', { name: 7 }, 'name', `body name: got 7, expected ${name}`],
    ['POST', '/v1/clients', { name: '' }, 'name', `body name: got "", expected ${name}`],
    ['POST', '/v1/clients', { name: 'a\u0000b' }, 'name', `body name: got "a\\u0000b", expected ${name}`],
    ['POST', '/v1/clients', { name: 'half \ud800' }, 'name', `body name: got "half \\ud800", expected ${name}`],
    ['POST', '/v1/clients', { name: { token: SECRET } }, 'name', `body name: got an object, expected ${name}`],
    ['POST', '/v1/clients', { token: SECRET }, 'token', 'body token: got an unknown field, expected id, name, pool'],
    [
      'POST',
      '/v1/clients',
      { ['x'.repeat(1_000)]: 1 },
      `${'x'.repeat(100)}…`,
      `body ${'x'.repeat(100)}…: got an unknown field, expected id`,
    ],
    ['PATCH', '/v1/clients/nobody', {}, 'name', 'body: name, pool or both are required'],
    [
      'PUT',
      '/v1/clients/nobody/addresses',
      {},
      'addresses',
      'body addresses: got nothing, expected a list of at most one',
    ],
    [
      'PUT',
      '/v1/clients/nobody/addresses',
      { addresses: [7] },
      'addresses.0',
      'body addresses.0: got 7, expected an address',
    ],
    ['GET', '/v1/clients/%00', undefined, 'id', 'path id: got "\\u0000", expected text of up to 200 characters'],
    ['GET', '/v1/clients?limit=0', undefined, 'limit', 'query limit: got "0", expected a whole number from 1 to 9999'],
    [
      'GET',
      '/v1/clients?limit=1&limit=2',
      undefined,
      'limit',
      'query limit: got a list of 2, expected a whole number from',
    ],
    ['GET', '/v1/clients?after=%00', undefined, 'after', 'query after: got "\\u0000", expected text of up to 200'],
    ['GET', '/v1/connections?clientId=%00', undefined, 'clientId', 'query clientId: got "\\u0000", expected text'],
    ['GET', '/v1/connections?nodeId=%0a', undefined, 'nodeId', 'query nodeId: got "\\n", expected text'],
    [
      'GET',
      '/v1/connections?limit=many',
      undefined,
      'limit',
      'query limit: got "many", expected a whole number from 1 to',
    ],
    [
      'GET',
      '/v1/connections?state=opened',
      undefined,
      'state',
      'query state: got "opened", expected one of open, presumed, closed',
    ],
    [
      'GET',
      `/v1/connections?token=${SECRET}`,
      undefined,
      'token',
      'query token: got an unknown field, expected state, clientId',
    ],
    [
      'GET',
      '/v1/connections?after=x',
      undefined,
      'after',
      'query after: got "x", expected the id of a connection, a UUID in lower case',
    ],
    [
      'GET',
      `/v1/connections?after=${NO_CONNECTION}`,
      undefined,
      'after',
      `query after: got "${NO_CONNECTION}", expected the id of a connection that there is`,
    ],
    ['GET', '/v1/nodes?state=up', undefined, 'state', 'query state: got an unknown field, expected none'],
    [
      'DELETE',
      '/v1/pools/default?closeTunnels=yes',
      undefined,
      'closeTunnels',
      'query closeTunnels: got "yes", expected one of true, false',
    ],
  ];
  for (const [method, path, body, field, detail] of cases) {
    const answer = await controlPlane.call(method, path, body);
    assert.deepEqual([answer.status, answer.body.status, answer.body.code], [400, 400, 'INVALID_REQUEST'], detail);
    assert.equal(answer.body.field, field, detail);
    assert.ok(String(answer.body.detail).startsWith(detail), `${answer.body.detail}, not ${detail}`);
    assert.ok(!JSON.stringify(answer.body).includes(SECRET), detail);
  }
});

test('a body that cannot be read is refused with a code of ours, and nothing that was in it', { skip }, async () => {
  const json = 'expected a JSON object';
  const cases: ReadonlyArray<
    readonly [body: string | undefined, contentType: string, status: number, code: string, detail: string]
  > = [
    [
      `{"token":"${SECRET}"`,
      'application/json',
      400,
      'INVALID_JSON',
      `body: got text that is not JSON at position 28, ${json}`,
    ],
    [SECRET, 'application/json', 400, 'INVALID_JSON', `body: got text that is not JSON, ${json}`],
    ['\u0000', 'application/json; charset=utf-8', 400, 'INVALID_JSON', `body: got text that is not JSON, ${json}`],
    ['', 'application/json', 400, 'INVALID_REQUEST', `body: got nothing, ${json} of id, name, pool`],
    [undefined, '', 400, 'INVALID_REQUEST', `body: got nothing, ${json} of id, name, pool`],
    [`"${SECRET}"`, 'application/json', 400, 'INVALID_REQUEST', `body: got a text, ${json} of id, name, pool`],
    ['[1,2]', 'application/json', 400, 'INVALID_REQUEST', `body: got a list of 2, ${json} of id, name, pool`],
    [
      '{"__proto__":{"id":"x"}}',
      'application/json',
      400,
      'INVALID_REQUEST',
      'body __proto__: got an unknown field, expected',
    ],
    ['{}', 'text/plain', 415, 'UNSUPPORTED_MEDIA_TYPE', 'content-type: got "text/plain", expected application/json'],
    ['{}', 'nonsense', 415, 'UNSUPPORTED_MEDIA_TYPE', 'content-type: got what is none, expected application/json'],
    [
      ' '.repeat(65_537),
      'application/json',
      413,
      'BODY_TOO_LARGE',
      'body: got more than is allowed, expected at most 65536 bytes',
    ],
  ];
  for (const [body, contentType, status, code, detail] of cases) {
    const answer = (await send('POST', '/v1/clients', body, contentType)).body;
    assert.deepEqual([answer.status, answer.code], [status, code], detail);
    assert.ok(String(answer.detail).startsWith(detail), `${answer.detail}, not ${detail}`);
    assert.ok(!JSON.stringify(answer).includes(SECRET), detail);
  }
});

test('a path or method that there is not is answered with those that there are', { skip }, async () => {
  const nothing = (await send('GET', '/v1/nothing?x=1', undefined)).body;
  assert.deepEqual([nothing.status, nothing.code], [404, 'NOT_FOUND']);
  assert.match(
    String(nothing.detail),
    /^path: got "\/v1\/nothing", expected one of \/healthz, .*\/v1\/clients, \/v1\/conn/,
  );
  for (const [method, path, allowed] of [
    ['PUT', '/v1/clients', 'GET, HEAD, POST'],
    ['POST', '/v1/clients/ada', 'DELETE, GET, HEAD, PATCH'],
    ['POST', '/metrics', 'GET, HEAD'],
  ] as const) {
    const { headers, body } = await send(method, path, undefined);
    assert.deepEqual([body.status, body.code, headers.get('allow')], [405, 'METHOD_NOT_ALLOWED', allowed]);
    assert.equal(body.detail, `method: got "${method}", expected one of ${allowed}`);
  }
  const undecodable = (await send('GET', '/v1/clients/%zz', undefined)).body;
  assert.deepEqual([undecodable.status, undecodable.code], [400, 'INVALID_URL']);
});

test('what is no HTTP is answered with a problem too', { skip }, async () => {
  const { hostname, port } = new URL(controlPlane.url);
  for (const [text, status, code] of [
    ['nonsense\r\n\r\n', '400 Bad Request', 'INVALID_HTTP'],
    [`GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, '431 Request Header Fields Too Large', 'HEAD_TOO_LARGE'],
  ] as const) {
    const socket = connect(Number(port), hostname);
    socket.write(text);
    const answer = (await socket.setEncoding('utf8').toArray()).join('');
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    assert.ok(head.startsWith(`HTTP/1.1 ${status}\r\nContent-Type: application/problem+json`), head);
    assert.equal(JSON.parse(body).code, code);
  }
});

test('what is not there, or is there already, is named', { skip }, async () => {
  for (const [method, body] of [
    ['PATCH', { name: 'x' }],
    ['GET', undefined],
    ['DELETE', undefined],
  ] as const) {
    const { status, body: problem } = await controlPlane.call(method, '/v1/clients/nobody', body);
    assert.deepEqual([status, problem.code, problem.field], [404, 'CLIENT_UNKNOWN', 'id'], method);
    assert.equal(problem.detail, 'client "nobody" is not enrolled');
  }
  assert.equal((await controlPlane.call('POST', '/v1/clients', { id: 'twice' })).status, 201);
  const again = await controlPlane.call('POST', '/v1/clients', { id: 'twice' });
  assert.deepEqual([again.status, again.body.code, again.body.field], [409, 'CLIENT_EXISTS', 'id']);
});

test('whatever is sent is taken or refused with a reason, and never an error of ours', { skip }, async () => {
  assert.equal((await controlPlane.call('POST', '/v1/clients', { id: 'random' })).status, 201);
  const values = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.constantFrom('10.96.0.0/16', '0.0.0.0/0', '10.99.0.1', 'fd00:96::/64', '::', 'default', 26, 120, -1, 1e300),
  );
  const bodies = fc.dictionary(
    fc.constantFrom('id', 'name', 'pool', 'addresses', 'v4', 'v6', 'blockPrefixV4', 'blockPrefixV6', '__proto__'),
    values,
    { maxKeys: 4 },
  );
  const routes = fc.constantFrom(
    ['POST', '/v1/clients'],
    ['POST', '/v1/pools'],
    ['PATCH', '/v1/clients/random'],
    ['PUT', '/v1/clients/random/addresses'],
  );
  await fc.assert(
    fc.asyncProperty(routes, fc.oneof(bodies, values), async ([method = '', path = ''], body) => {
      const answer = await controlPlane.call(method, path, body ?? null);
      if (answer.status < 300) return;
      assert.ok([400, 409].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`);
      assert.equal(typeof answer.body.code, 'string');
      assert.ok(String(answer.body.detail).length < 1_000, 'a line that people can read');
    }),
    { numRuns: 300 },
  );
});
