import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { H3_MESSAGE_ERROR, Http3StreamError } from '../../../data-plane/http3/error-codes.ts';
import { encodeAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import { CAPSULE_ADDRESS_REQUEST, encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import { encodeRouteAdvertisement } from '../../../data-plane/masque/route-advertisement.ts';
import { openTunnel } from '../../../data-plane/webtransport/browser-client.js';
import { echoRequest, readAddress, readEcho } from '../../../data-plane/webtransport/browser-packet.js';
import type { SessionCapsules } from '../../../data-plane/webtransport/session-capsules.ts';
import { parseAddress } from '../../../shared/ip/address.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { waitFor } from '../../support/wait-for.ts';
import { clientOptions, WebTransport } from '../../support/webtransport-client.ts';
import { type SessionHost, startSessionHost } from './session-host.ts';

const TIMEOUT_MS = 10_000;
const OWN = ['10.99.0.2', 'fd00:99::2'];
const PATH = '/.well-known/masque/ip/*/*/';

async function openPair(t: TestContext, host: SessionHost, onPacket: (packet: Uint8Array) => void = () => {}) {
  const opened = openTunnel(`https://127.0.0.1:${host.port}${PATH}`, 'secret', {
    WebTransport,
    options: clientOptions(host.cert),
    onPacket,
  });
  const session = await host.nextSession();
  const all = encodeAddressAssign([
    { requestId: 0n, prefix: parsePrefix('10.99.0.2/32') },
    { requestId: 0n, prefix: parsePrefix('fd00:99::2/128') },
  ]);
  const start = parseAddress('0.0.0.0');
  const routes = encodeRouteAdvertisement([{ start, end: parseAddress('255.255.255.255'), protocol: 0 }]);
  session.write(Buffer.concat([all, routes]));
  const tunnel = await opened;
  t.after(() => tunnel.close());
  return { session, tunnel, received: collect(session) };
}

function collect(session: SessionCapsules): { bytes: Buffer } {
  const received = { bytes: Buffer.alloc(0) };
  session.on('data', (bytes: Buffer) => {
    received.bytes = Buffer.concat([received.bytes, bytes]);
  });
  return received;
}

test('the capsules of the node reach the client by the stream, and packets go both ways as datagrams', async (t) => {
  const host = await startSessionHost(t);
  const came: Uint8Array[] = [];
  const { session, tunnel, received } = await openPair(t, host, (packet) => came.push(packet));
  assert.deepEqual(tunnel.addresses, OWN);
  assert.deepEqual(tunnel.routes, [{ first: '0.0.0.0', last: '255.255.255.255', protocol: 0 }]);

  await tunnel.ping('10.99.0.1', 7, 1);
  await tunnel.ping('fd00:99::1', 7, 2);
  const sent = [echoRequest(OWN[0]!, '10.99.0.1', 7, 1), echoRequest(OWN[1]!, 'fd00:99::1', 7, 2)];
  const expected = Buffer.concat(sent.map((packet) => encodeDatagramCapsule(Buffer.concat([Buffer.of(0), packet]))));
  await waitFor(() => received.bytes.length >= expected.length, { timeoutMs: TIMEOUT_MS, what: 'the packets' });
  assert.deepEqual(received.bytes, expected);

  const packets = [1, 2, 3].map((n) => new Uint8Array(1400).fill(n));
  const capsules = Buffer.concat(packets.map((p) => encodeDatagramCapsule(Buffer.concat([Buffer.of(0), p]))));
  session.write(capsules.subarray(0, 2000));
  session.write(capsules.subarray(2000));
  await waitFor(() => came.length === packets.length, { timeoutMs: TIMEOUT_MS, what: 'the packets' });
  assert.deepEqual(came, packets);
});

test('a page answers the probes of the node, in IPv4 and IPv6', async (t) => {
  const { session, received } = await openPair(t, await startSessionHost(t));
  for (const [index, own] of OWN.entries()) {
    const node = own.replace(/2$/, '1');
    received.bytes = Buffer.alloc(0);
    session.write(encodeDatagramCapsule(Buffer.concat([Buffer.of(0), echoRequest(node, own, 9, index)])));
    await waitFor(() => received.bytes.length > 0, { timeoutMs: TIMEOUT_MS, what: 'the answer' });
    const echo = readEcho(received.bytes.subarray(3));
    assert.ok(echo !== undefined && !echo.isRequest);
    assert.deepEqual(
      [readAddress(echo.from), readAddress(echo.to), echo.identifier, echo.sequence],
      [own, node, 9, index],
    );
  }
});

test('capsules of the client are never cut by datagrams, and unknown ones are read over', async (t) => {
  const host = await startSessionHost(t);
  const client = new WebTransport(`https://127.0.0.1:${host.port}/`, clientOptions(host.cert));
  t.after(() => client.close());
  await client.ready;
  const received = collect(await host.nextSession());
  const writer = (await client.createBidirectionalStream()).writable.getWriter();
  const datagrams = client.datagrams.createWritable().getWriter();
  const request = encodeCapsule(CAPSULE_ADDRESS_REQUEST, new Uint8Array([1, 4, 0, 0, 0, 0, 32]));
  const unknown = encodeCapsule(0x1f * 3 + 0x17, new Uint8Array(5_000));
  const bytes = Buffer.concat([request, unknown, request]);
  const packet = new Uint8Array([0, 0x45]);
  for (let at = 0; at < bytes.length; at += 700) {
    await writer.write(bytes.subarray(at, at + 700));
    await datagrams.write(packet);
  }
  await writer.write(request.subarray(0, 3));
  await datagrams.write(packet);
  await writer.write(request.subarray(3));
  const whole = 3 * request.length + encodeDatagramCapsule(packet).length * (Math.ceil(bytes.length / 700) + 1);
  await waitFor(() => received.bytes.length >= whole, { timeoutMs: TIMEOUT_MS, what: 'all capsules' });
  const hex = received.bytes.toString('hex').replaceAll(Buffer.from(encodeDatagramCapsule(packet)).toString('hex'), '');
  assert.equal(hex, Buffer.from(request).toString('hex').repeat(3));
});

test('whoever ends the tunnel, the other end hears of it', async (t) => {
  const host = await startSessionHost(t);
  const first = await openPair(t, host);
  first.session.end();
  assert.deepEqual(await first.tunnel.closed, { closeCode: 0, reason: '' });

  const second = await openPair(t, host);
  second.session.destroy(new Http3StreamError(H3_MESSAGE_ERROR, 'a capsule that is malformed'));
  assert.deepEqual(await second.tunnel.closed, { closeCode: H3_MESSAGE_ERROR, reason: 'a capsule that is malformed' });

  const third = await openPair(t, host);
  const ended = once(third.session, 'end');
  third.tunnel.close();
  await ended;
  third.session.end();
  await once(third.session, 'close');
});
