import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { encodeVarint } from '../../../data-plane/http3/varint.ts';
import { decodeCoreEvents } from '../../../data-plane/quic/core-events.ts';
import { createConnectionIds, initialToken, readConnectionIds } from '../../../data-plane/quic/packet-header.ts';
import { encodeRetry } from '../../../data-plane/quic/retry-packet.ts';
import { checkRetryToken, mintRetryToken, RETRY_KEY_BYTES } from '../../../data-plane/quic/retry-token.ts';
import { encodeVersionNegotiation } from '../../../data-plane/quic/version-negotiation.ts';
import { fuzz, hostile, surroundings, within } from '../../support/fuzz.ts';

const OWN_ID_BYTES = 20;
const anyId = fc.uint8Array({ maxLength: 21 });
const withLength = (id: Uint8Array): Buffer => Buffer.concat([Buffer.of(id.length), id]);
const longHeader = fc
  .tuple(
    fc.constantFrom(0xc0, 0xd0, 0xe0, 0xf0),
    fc.constantFrom(1, 1, 0, 2),
    anyId,
    anyId,
    fc.uint8Array({ maxLength: 40 }),
  )
  .map(([first, version, destination, source, token]) =>
    Uint8Array.from(
      Buffer.concat([
        Buffer.of(first, 0, 0, 0, version),
        withLength(destination),
        withLength(source),
        encodeVarint(token.length),
        token,
      ]),
    ),
  );
const shortHeader = fc.uint8Array({ minLength: 1, maxLength: 60 }).map((bytes) => bytes.with(0, bytes[0]! & 0x7f));
const anyDatagram = hostile(fc.oneof(longHeader, shortHeader), 60);

suite('packet headers', () => {
  test('any datagram gets one answer, wherever it lies, and ids and token are inside of it', () => {
    const [alone, embedded] = [createConnectionIds(), createConnectionIds()];
    fuzz(anyDatagram, surroundings, (bytes, around) => {
      const { buffer, offset } = within(around, bytes);
      const form = readConnectionIds(bytes, 0, bytes.length, OWN_ID_BYTES, alone);
      assert.equal(readConnectionIds(buffer, offset, bytes.length, OWN_ID_BYTES, embedded), form);
      if (form === 'invalid') return;
      for (const [at, length] of [
        [alone.destinationOffset, alone.destinationLength],
        [alone.sourceOffset, alone.sourceLength],
      ] as const) {
        assert.ok(at > 0 && at + length <= bytes.length);
      }
      assert.equal(embedded.destinationOffset - offset, alone.destinationOffset);
      assert.equal(embedded.sourceOffset - offset, alone.sourceOffset);
      if (form !== 'long') return;
      const token = initialToken(bytes, 0, bytes.length, alone);
      const same = initialToken(buffer, offset, bytes.length, embedded);
      assert.deepEqual(same && { ...same, offset: same.offset - offset }, token);
      assert.ok(token === undefined || token.offset + token.length <= bytes.length);
    });
  });

  test('what answers a client carries its ids back, and can be read', () => {
    const ids = createConnectionIds();
    fuzz(anyDatagram, fc.uint8Array({ minLength: 20, maxLength: 20 }), (bytes, newId) => {
      const form = readConnectionIds(bytes, 0, bytes.length, OWN_ID_BYTES, ids);
      if (form !== 'long' && form !== 'other_version') return;
      const destination = bytes.slice(ids.destinationOffset, ids.destinationOffset + ids.destinationLength);
      const source = bytes.slice(ids.sourceOffset, ids.sourceOffset + ids.sourceLength);
      const negotiation = encodeVersionNegotiation(bytes, ids);
      assert.deepEqual(negotiation.subarray(0, 5).readUInt32BE(1), 0);
      assert.deepEqual(
        negotiation.subarray(5, 5 + 2 + source.length + destination.length),
        Buffer.concat([withLength(source), withLength(destination)]),
      );
      if (form !== 'long') return;
      const retry = encodeRetry(source, destination, newId, Buffer.of(1, 2, 3));
      assert.equal(readConnectionIds(retry, 0, retry.length, OWN_ID_BYTES, ids), 'long');
      assert.deepEqual(
        retry.subarray(ids.destinationOffset, ids.destinationOffset + ids.destinationLength),
        Buffer.from(source),
      );
      assert.deepEqual(retry.subarray(ids.sourceOffset, ids.sourceOffset + ids.sourceLength), Buffer.from(newId));
    });
  });
});

test('a token is good for its peer and its time, and any other bytes are unknown', () => {
  const key = randomBytes(RETRY_KEY_BYTES);
  const peer = '192.0.2.7:4433';
  const nowMs = 1_800_000_000_000;
  const minted = anyId.map((id) => Uint8Array.from(mintRetryToken(key, peer, id, nowMs)));
  fuzz(minted, (token) => {
    assert.equal(checkRetryToken(key, token, peer, nowMs), 'valid');
    assert.equal(checkRetryToken(key, token, '[2001:db8::1]:4433', nowMs), 'another_address');
    assert.equal(checkRetryToken(randomBytes(RETRY_KEY_BYTES), token, peer, nowMs), 'unknown');
  });
  fuzz(minted, hostile(minted), (whole, token) => {
    const verdict = checkRetryToken(key, token, peer, nowMs);
    assert.ok(verdict === 'valid' || verdict === 'unknown', verdict);
    // What is valid was minted: with one bit changed it is not.
    assert.equal(checkRetryToken(key, whole.with(whole.length - 1, whole.at(-1)! ^ 1), peer, nowMs), 'unknown');
  });
});

test('what the core reports of a peer, in its words too, becomes events of known kinds', () => {
  const text = fc.oneof(fc.string(), fc.constantFrom('StreamReset(268)', 'StreamStopped(1)', 'StreamReset(', '::1'));
  const raw = fc.record(
    {
      eventType: fc.integer({ min: 0, max: 20 }),
      connHandle: fc.nat(),
      streamId: fc.nat(),
      fin: fc.boolean(),
      dataOff: fc.nat(),
      dataLen: fc.nat(),
      meta: fc.record(
        { errorCode: fc.nat(), errorReason: text, remoteAddr: text, remotePort: fc.nat(65_535) },
        { requiredKeys: [] },
      ),
    },
    { requiredKeys: ['eventType', 'connHandle', 'streamId', 'fin'] },
  );
  const kinds = new Set(['connection', 'handshake', 'stream', 'streamReset', 'writable', 'datagram', 'closed']);
  fuzz(fc.array(raw, { maxLength: 5 }), fc.boolean(), (events, single) => {
    const decoded = decodeCoreEvents(JSON.stringify(events), single);
    assert.ok(decoded.length <= events.length);
    for (const event of decoded) {
      assert.ok(kinds.has(event.kind));
      if (event.kind === 'streamReset') assert.ok(Number.isFinite(event.errorCode));
      if (single) assert.equal(event.connection, 0);
    }
  });
});
