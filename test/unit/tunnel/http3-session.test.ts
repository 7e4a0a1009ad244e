import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { encodeVarint } from '../../../data-plane/http3/varint.ts';
import { encodeAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { SESSION_CLOSE } from '../../../data-plane/webtransport/session-capsule.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { CONNECT_IP, concat, frame, headers, hex } from '../http3/recording.ts';
import { packet } from '../ip/sample-packets.ts';
import { CONNECTION_ID, TunnelPair } from './tunnel-pair.ts';

let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
});
const sample = packet({ family: 4, source: Uint8Array.of(10, 99, 0, 7) });
const ASSIGNMENT = encodeAddressAssign(
  ['10.99.0.7/32', 'fd00:99::7/128'].map((text) => ({ requestId: 0n, prefix: parsePrefix(text) })),
);
const REJECTED = 0x3994bd84;
const GONE = 0x170d7b68;

/** What a client's stream of a session begins with. */
const opening = (sessionId: number): Uint8Array => concat(encodeVarint(0x41), encodeVarint(sessionId));
const close = (code: number): Uint8Array => {
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, code);
  return encodeCapsule(SESSION_CLOSE, value);
};

interface OpenSession {
  readonly pair: TunnelPair;
  readonly request: number;
  readonly stream: number;
}

function openSession(pair = new TunnelPair(pem)): OpenSession {
  const request = pair.request('secret', '', 'webtransport');
  assert.equal(pair.accept(), true);
  const stream = request + 4;
  pair.raw(stream, opening(request));
  pair.client.log.length = 0;
  return { pair, request, stream };
}

const endOf = ({ pair }: OpenSession): string[] => pair.host.closed.map(({ reason, detail }) => `${reason}: ${detail}`);
const received = ({ pair }: OpenSession, streamId: number): string =>
  pair.client.received.get(streamId)?.toString('hex') ?? '';

suite('a WebTransport session on HTTP/3', () => {
  test('the assignments wait for the stream that the client opens; packets are datagrams of the session', () => {
    const pair = new TunnelPair(pem);
    const request = pair.request('secret', '', 'webtransport');
    assert.deepEqual(pair.host.requests, [{ id: 1, token: 'secret' }]);
    assert.deepEqual(pair.host.transports, ['webtransport']);
    assert.equal(pair.accept(), true);
    assert.deepEqual(pair.client.log, [`response ${request} 200`]);
    assert.deepEqual(pair.host.opened, [CONNECTION_ID]);

    for (const byte of opening(request)) pair.raw(request + 4, Uint8Array.of(byte));
    const session = { pair, request, stream: request + 4 };
    assert.ok(received(session, session.stream).startsWith(Buffer.from(ASSIGNMENT).toString('hex')));
    assert.equal(pair.sendUp(request, sample), true);
    assert.deepEqual(pair.host.up, [Buffer.from(sample)]);
  });

  test('capsules come on that stream in any pieces, and are answered there', () => {
    const session = openSession();
    const { pair, stream } = session;
    const before = received(session, stream).length;
    const wish = encodeAddressRequest([{ requestId: 5n, prefix: parsePrefix('0.0.0.0/32') }]);
    for (const byte of concat(encodeCapsule(0x17, hex('0102')), wish)) pair.raw(stream, Uint8Array.of(byte));
    assert.ok(received(session, stream).slice(before).startsWith('011a0504'));
    assert.deepEqual(endOf(session), []);
  });

  test('the client ends it by either stream, a reset of it, or a close', () => {
    const ends: readonly [detail: string, act: (session: OpenSession) => void][] = [
      ['end of stream', ({ pair, stream }) => pair.raw(stream, new Uint8Array(0), true)],
      ['end of stream', ({ pair, request }) => pair.raw(request, new Uint8Array(0), true)],
      ['reset, code 0x7', ({ pair, stream }) => pair.client.quic.resetStream(0, stream, 7)],
      ['reset, code 0x10c', ({ pair, request }) => pair.client.http3.abortStream(request, 0x10c)],
      ['closed, code 9', ({ pair, request }) => void pair.client.http3.sendData(request, close(9))],
    ];
    for (const [detail, act] of ends) {
      const session = openSession();
      act(session);
      session.pair.exchange();
      assert.deepEqual(endOf(session), [`client: ${detail}`]);
    }
  });

  test('the node ends it with a close that has the code: 0 when it drains, else an error of HTTP/3', () => {
    const drained = openSession();
    drained.pair.connection.drain('the node stops');
    drained.pair.exchange();
    assert.deepEqual(drained.pair.host.closed[0]?.reason, 'drained');
    assert.ok(received(drained, drained.request).endsWith(Buffer.from(close(0)).toString('hex')));
    assert.ok(drained.pair.client.log.includes(`end ${drained.request}`));

    const malformed = openSession();
    malformed.pair.raw(malformed.stream, encodeCapsule(1, hex('00')));
    assert.equal(malformed.pair.host.closed[0]?.reason, 'error');
    assert.ok(received(malformed, malformed.request).endsWith(Buffer.from(close(0x10e)).toString('hex')));
    assert.equal(malformed.pair.client.resets.get(malformed.stream), 0x10e);
  });

  test('an end inside a capsule is an error, and so is a close that is cut off or too long', () => {
    const inside = openSession();
    inside.pair.raw(inside.stream, hex('0209'), true);
    assert.match(endOf(inside)[0] ?? '', /^error: .*inside a capsule/);
    for (const bytes of [encodeCapsule(SESSION_CLOSE, hex('0000')), hex('6843 4405')]) {
      const session = openSession();
      session.pair.client.http3.sendData(session.request, bytes);
      session.pair.exchange();
      assert.match(endOf(session)[0] ?? '', /^error: a close/);
      assert.equal(session.pair.client.resets.get(session.request), 0x10e);
      assert.equal(session.pair.client.resets.get(session.stream), GONE);
    }
  });

  test('a second stream, and one of no session, are refused, and the session goes on', () => {
    const session = openSession();
    const { pair, request, stream } = session;
    pair.raw(stream + 4, concat(opening(request), hex('1700')));
    pair.raw(stream + 8, opening(stream));
    pair.raw(stream + 12, opening(2 ** 40));
    for (const other of [4, 8, 12]) assert.equal(pair.client.resets.get(stream + other), REJECTED);
    // Streams of one direction are read over, as are those that no session has.
    pair.raw(14, concat(encodeVarint(0x54), encodeVarint(request), hex('aabb')), true);
    assert.equal(pair.sendUp(request, sample), true);
    assert.equal(pair.host.up.length, 1);
    assert.deepEqual(endOf(session), []);
  });

  test('one whose client opens no stream is closed', () => {
    const pair = new TunnelPair(pem);
    const request = pair.request('secret', '', 'webtransport');
    pair.accept();
    pair.connection.sweep(performance.now() + 9_000);
    assert.deepEqual(pair.host.closed, []);
    pair.connection.sweep(performance.now() + 11_000);
    pair.exchange();
    const session = { pair, request, stream: request + 4 };
    assert.deepEqual(endOf(session), ['error: the client opened no stream']);
    assert.ok(received(session, request).endsWith(Buffer.from(close(0x10d)).toString('hex')));
  });

  test('a tunnel of CONNECT-IP is no session: no stream is opened in it, and 0x41 after a request is a frame that nobody knows', () => {
    const pair = new TunnelPair(pem);
    const request = pair.open();
    pair.raw(request + 4, opening(request));
    assert.equal(pair.client.resets.get(request + 4), REJECTED);
    pair.raw(request + 8, concat(headers(CONNECT_IP), frame(0x41, hex('0102'))));
    assert.equal(pair.host.requests.length, 2);
    assert.equal(pair.sendUp(request, sample), true);
  });
});
