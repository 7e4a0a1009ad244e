import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { type Api, createApi } from '../../../control-plane/api/server.ts';
import { ControlMetrics } from '../../../control-plane/metrics/control-metrics.ts';
import { createLogger } from '../../../shared/log/logger.ts';

const TOKEN = 'token-of-the-admin';
const REQUEST_TIMEOUT_MS = 100;

let api: Api;

before(async () => {
  api = createApi({
    adminTokens: [{ name: 'admin', token: TOKEN }],
    metrics: new ControlMetrics(),
    log: createLogger('test', 'silent'),
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
  });
  api.get('/healthz', async () => ({}));
  api.post('/v1/things', async () => ({}));
  await api.listen({ host: '127.0.0.1', port: 0 });
});

after(() => api.close());

/** All that comes until the server ends the connection. */
async function answerTo(request: string) {
  const socket = connect((api.server.address() as AddressInfo).port, '127.0.0.1');
  socket.write(request);
  const [head = '', body = ''] = (await socket.setEncoding('utf8').toArray()).join('').split('\r\n\r\n');
  return { head, body: JSON.parse(body) as Record<string, unknown> };
}

for (const [what, text] of [
  ['head', `POST /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nConte`],
  [
    'body',
    `POST /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"id":`,
  ],
] as const) {
  test(`a request whose ${what} does not come to its end is answered with 408, and its connection ended`, async () => {
    const startedAt = performance.now();
    const { head, body } = await answerTo(text);
    const tookMs = performance.now() - startedAt;
    assert.ok(head.startsWith('HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json'), head);
    assert.match(head, /\r\nConnection: close$/);
    assert.deepEqual([body.status, body.code], [408, 'REQUEST_TIMEOUT']);
    assert.ok(tookMs >= REQUEST_TIMEOUT_MS / 2, `after ${tookMs} ms`);
  });
}

test('a request with no Host, or more than one, is refused with what is missing', async () => {
  for (const [hosts, detail] of [
    ['', 'host: got nothing, expected one Host header'],
    ['Host: a\r\nHost: b\r\n', 'host: got 2 of them, expected one Host header'],
  ]) {
    const { head, body } = await answerTo(`GET /healthz HTTP/1.1\r\nConnection: close\r\n${hosts}\r\n`);
    assert.ok(head.startsWith('HTTP/1.1 400 Bad Request\r\n'), head);
    assert.match(head, /content-type: application\/problem\+json/i);
    assert.deepEqual([body.status, body.code, body.detail], [400, 'INVALID_HOST', detail]);
  }
});

test('HTTP/1.0 needs no Host', async () => {
  const { head } = await answerTo('GET /healthz HTTP/1.0\r\n\r\n');
  assert.ok(head.startsWith('HTTP/1.1 200 OK\r\n'), head);
});
