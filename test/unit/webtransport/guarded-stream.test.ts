import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ClientHttp2Stream } from 'node:http2';
import { test } from 'node:test';
import fc from 'fast-check';
import { H3_EXCESSIVE_LOAD, H3_MESSAGE_ERROR, H3_REQUEST_INCOMPLETE } from '../../../data-plane/http3/error-codes.ts';
import { encodeVarint } from '../../../data-plane/http3/varint.ts';
import { encodeAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import {
  SESSION_CLOSE,
  SESSION_MAX_DATA,
  SESSION_MAX_STREAM_DATA,
  SESSION_RESET_STREAM,
  SESSION_STOP_SENDING,
  SESSION_STREAM,
  SESSION_STREAM_FIN,
} from '../../../data-plane/webtransport/session-capsule.ts';
import type { SessionCapsules } from '../../../data-plane/webtransport/session-capsules.ts';
import { waitFor } from '../../support/wait-for.ts';
import { openRawSession, startSessionHost } from './session-host.ts';

const TIMEOUT_MS = 10_000;
const OPEN = encodeCapsule(SESSION_STREAM, Uint8Array.of(1));
const header = (type: number, length: number): Buffer => Buffer.concat([encodeVarint(type), encodeVarint(length)]);

/** What the node said last, if it is a close: its code and reason. */
async function closeOf(stream: ClientHttp2Stream): Promise<{ code: number; reason: string } | undefined> {
  const parts: Buffer[] = [];
  stream.on('data', (bytes: Buffer) => parts.push(bytes));
  if (!stream.closed) await once(stream, 'close');
  const bytes = Buffer.concat(parts);
  const at = bytes.lastIndexOf(Buffer.from(encodeVarint(SESSION_CLOSE)));
  if (at < 0) return undefined;
  const body = bytes.subarray(at + 2 + 1 * (bytes[at + 2]! < 64 ? 1 : 2));
  return { code: body.readUInt32BE(0), reason: body.toString('utf8', 4) };
}

const MALFORMED: readonly (readonly [name: string, ...capsules: Uint8Array[]])[] = [
  ['a close that is shorter than its code', encodeCapsule(SESSION_CLOSE, new Uint8Array(2)), OPEN],
  ['a close that is too long', header(SESSION_CLOSE, 1029)],
  ['a stream capsule without an id', encodeCapsule(SESSION_STREAM, new Uint8Array(0))],
  ['a stream id that is cut off', encodeCapsule(SESSION_STREAM, Uint8Array.of(0x41))],
  ['a stream that the node would have to open', encodeCapsule(SESSION_STREAM, Uint8Array.of(0))],
  ['a unidirectional stream', encodeCapsule(SESSION_STREAM, Uint8Array.of(3))],
  ['a second stream', OPEN, encodeCapsule(SESSION_STREAM, Uint8Array.of(5))],
  ['a stream far beyond the first', encodeCapsule(SESSION_STREAM, encodeVarint(2 ** 40 + 1))],
  ['a window without a value', encodeCapsule(SESSION_MAX_DATA, new Uint8Array(0))],
  ['a stream window without a value', OPEN, encodeCapsule(SESSION_MAX_STREAM_DATA, Uint8Array.of(1))],
  ['a reset without a stream', encodeCapsule(SESSION_RESET_STREAM, new Uint8Array(0))],
  ['an end inside a capsule', encodeCapsule(SESSION_STREAM_FIN, Uint8Array.of(1, 2, 9))],
];

test('malformed sessions are closed with an error, and no other session notices', async (t) => {
  const host = await startSessionHost(t);
  const other = await openRawSession(t, host);
  const session = await host.nextSession();
  for (const [name, ...capsules] of MALFORMED) {
    await t.test(name, async () => {
      const stream = await openRawSession(t, host);
      const closed = closeOf(stream);
      for (const capsule of capsules) stream.write(capsule);
      const close = await closed;
      assert.ok(close !== undefined, 'no close came');
      assert.equal(close.code, H3_MESSAGE_ERROR, close.reason);
      (await host.nextSession()).end();
    });
  }
  await assertAlive(other, session);
});

const EXCESSIVE: readonly (readonly [name: string, capsule: Uint8Array])[] = [
  ['of the tunnel', encodeCapsule(SESSION_STREAM, Buffer.concat([Uint8Array.of(1), header(1, 65_537)]))],
  ['of a packet', header(0, 65_537)],
  ['of the stream, of 2^62 - 1 bytes', Buffer.concat([encodeVarint(SESSION_STREAM), Buffer.alloc(8, 0xff)])],
];
for (const [name, capsule] of EXCESSIVE) {
  test(`item 25 a capsule ${name} above its limit closes the session as too much`, async (t) => {
    const host = await startSessionHost(t);
    const stream = await openRawSession(t, host);
    const closed = closeOf(stream);
    stream.write(capsule);
    assert.equal((await closed)?.code, H3_EXCESSIVE_LOAD);
  });
}

test('more on the stream than its window allows ends the session', async (t) => {
  const host = await startSessionHost(t);
  const stream = await openRawSession(t, host);
  const closed = closeOf(stream);
  stream.write(encodeCapsule(SESSION_STREAM, Buffer.concat([Uint8Array.of(1), Buffer.alloc(40_000, 0x17)])));
  assert.match((await closed)?.reason ?? '', /flow control/i);
  (await host.nextSession()).end();
});

const HARMLESS: readonly (readonly [name: string, capsule: Uint8Array])[] = [
  ['an unknown capsule of 1 MiB', encodeCapsule(0x17, Buffer.alloc(1024 * 1024))],
  ['padding', encodeCapsule(0x190b4d38, Buffer.alloc(1000))],
  ['a drain', encodeCapsule(0x78ae, new Uint8Array(0))],
  ['blocked streams, as nobody should be', encodeCapsule(0x190b4d43, encodeVarint(1_000_000))],
  ['the window of another stream', encodeCapsule(SESSION_MAX_STREAM_DATA, Uint8Array.of(9, 1))],
  ['the reset of another stream', encodeCapsule(SESSION_RESET_STREAM, Uint8Array.of(9, 1))],
  ['more streams for the node', encodeCapsule(0x190b4d3f, encodeVarint(2 ** 50))],
  ['an empty datagram', encodeDatagramCapsule(new Uint8Array(0))],
];

test('what means nothing to a tunnel is read over', async (t) => {
  const host = await startSessionHost(t);
  const stream = await openRawSession(t, host);
  const session = await host.nextSession();
  stream.resume();
  for (const [, capsule] of HARMLESS) stream.write(capsule);
  await assertAlive(stream, session);
});

test('the client ends the session by its stream, a reset of it, a close, or HTTP/2', async (t) => {
  const host = await startSessionHost(t);
  const ends: ((stream: ClientHttp2Stream) => void)[] = [
    (stream) => stream.write(encodeCapsule(SESSION_STREAM_FIN, Uint8Array.of(1))),
    (stream) => stream.write(Buffer.concat([OPEN, encodeCapsule(SESSION_RESET_STREAM, Uint8Array.of(1, 0))])),
    (stream) => stream.write(Buffer.concat([OPEN, encodeCapsule(SESSION_STOP_SENDING, Uint8Array.of(1, 0))])),
    (stream) => stream.write(Buffer.concat([encodeCapsule(SESSION_CLOSE, new Uint8Array(4)), OPEN])),
    (stream) => stream.end(),
    (stream) => stream.close(8),
    (stream) => stream.session?.destroy(),
  ];
  for (const end of ends) {
    const stream = await openRawSession(t, host);
    stream.resume();
    const session = await host.nextSession();
    session.resume();
    const ended = once(session, 'end');
    end(stream);
    await ended;
    session.end();
    await once(session, 'close');
  }
});

test('a session whose client opens no stream is closed', async (t) => {
  const host = await startSessionHost(t, 50);
  const close = await closeOf(await openRawSession(t, host));
  assert.deepEqual(close, { code: H3_REQUEST_INCOMPLETE, reason: 'the client opened no stream' });
});

test('a client that takes nothing makes its tunnel wait, and costs no more memory than the queues hold', async (t) => {
  const host = await startSessionHost(t);
  const stream = await openRawSession(t, host);
  stream.pause();
  const session = await host.nextSession();
  const batch = Buffer.concat(Array(40).fill(encodeDatagramCapsule(new Uint8Array(1401))));
  let written = 0;
  let waits = false;
  session.on('drain', () => {
    waits = false;
  });
  await waitFor(
    () => {
      if (!waits) {
        waits = !session.write(batch);
        written += batch.length;
      }
      return waits;
    },
    { timeoutMs: TIMEOUT_MS, what: 'the session to be full', intervalMs: 1 },
  );
  const stuck = async () => {
    const before = written;
    await new Promise((resolve) => setImmediate(resolve));
    return written === before && waits;
  };
  assert.ok(await stuck());
  assert.ok(written < 4 * 1024 * 1024, `${written} bytes`);
  stream.resume();
  await waitFor(() => !waits, { timeoutMs: TIMEOUT_MS, what: 'room' });
});

test('any bytes end the session or are read over, and the thread goes on', async (t) => {
  const host = await startSessionHost(t);
  const other = await openRawSession(t, host);
  const session = await host.nextSession();
  const types = [0, SESSION_CLOSE, ...Array.from({ length: 13 }, (_, i) => 0x190b4d38 + i), 0x78ae, 0x17];
  const capsule = fc
    .tuple(fc.constantFrom(...types), fc.uint8Array({ maxLength: 80 }))
    .map(([type, value]) => encodeCapsule(type, value));
  const input = fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.array(capsule, { maxLength: 6 }).map(Buffer.concat));
  await fc.assert(
    fc.asyncProperty(input, async (bytes) => {
      const stream = await openRawSession(t, host);
      const mine = await host.nextSession();
      mine.resume();
      stream.resume();
      const closed = new Promise((resolve) => mine.once('close', resolve));
      stream.end(Buffer.concat([OPEN, bytes]));
      mine.once('end', () => mine.end());
      await closed;
      stream.session?.destroy();
    }),
    { numRuns: 150 },
  );
  await assertAlive(other, session);
});

async function assertAlive(stream: ClientHttp2Stream, session: SessionCapsules): Promise<void> {
  const packet = encodeDatagramCapsule(Uint8Array.of(0, 0x45, 7));
  let received = '';
  session.on('data', (bytes: Buffer) => {
    received += bytes.toString('hex');
  });
  stream.write(packet);
  await waitFor(() => received.endsWith(Buffer.from(packet).toString('hex')), {
    timeoutMs: TIMEOUT_MS,
    what: 'a packet',
  });
  stream.write(OPEN);
  session.write(encodeAddressAssign([]));
  let sent = '';
  stream.on('data', (bytes: Buffer) => {
    sent += bytes.toString('hex');
  });
  const assign = Buffer.from(encodeAddressAssign([])).toString('hex');
  await waitFor(() => sent.includes(assign), { timeoutMs: TIMEOUT_MS, what: 'a capsule on the stream' });
}
