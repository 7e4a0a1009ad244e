import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  HandoffBatch,
  type HandoffHandler,
  MAX_HANDED_BYTES,
  MAX_MESSAGE_BYTES,
  readHandoff,
} from '../../../data-plane/handoff/handoff-batch.ts';
import { parseSocketAddress } from '../../../data-plane/udp/socket-address.ts';
import { SocketAddressCache } from '../../../data-plane/udp/socket-address-cache.ts';

const peers = new SocketAddressCache();
const v4 = parseSocketAddress('192.0.2.7:50000');
const v6 = parseSocketAddress('[2001:db8::7]:4433');

/** All that a message says, as text. */
function read(bytes: Uint8Array, length = bytes.length): string[] {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const hex = (offset: number, size: number) => Buffer.from(bytes.subarray(offset, offset + size)).toString('hex');
  const said: string[] = [];
  const handler: HandoffHandler = {
    onDatagram: (kind, from, sockaddrWord, offset, size) => {
      assert.ok(offset + size <= length);
      said.push(`${kind} of ${from}: ${peers.fromWords(words, sockaddrWord).text} ${hex(offset, size)}`);
    },
    onClaim: (from, offset, size) => {
      assert.ok(offset + size <= length);
      said.push(`claim of ${from}: ${hex(offset, size)}`);
    },
  };
  readHandoff(words, length, handler);
  return said;
}

test('datagrams of any length and peer come out as they went in, until a message is full', () => {
  const datagram = fc.record({
    bytes: fc.uint8Array({ minLength: 1, maxLength: MAX_HANDED_BYTES }),
    peer: fc.constantFrom(v4, v6),
  });
  fc.assert(
    fc.property(
      fc.array(datagram, { maxLength: 40 }),
      fc.constantFrom('ask', 'pass'),
      fc.nat(63),
      (all, kind, from) => {
        const batch = new HandoffBatch(kind, from);
        const taken = all.filter(({ bytes, peer }) => batch.addDatagram(bytes, 0, bytes.length, peer.bytes));
        assert.ok(batch.length <= MAX_MESSAGE_BYTES && batch.records === taken.length);
        assert.ok(taken.length === all.length || batch.length + MAX_HANDED_BYTES + 64 > MAX_MESSAGE_BYTES);
        assert.deepEqual(
          read(batch.bytes, batch.length),
          taken.map(({ bytes, peer }) => `${kind} of ${from}: ${peer.text} ${Buffer.from(bytes).toString('hex')}`),
        );
      },
    ),
  );
});

test('claims come out as they went in', () => {
  const batch = new HandoffBatch('claim', 3);
  const ids = ['00'.repeat(20), 'ff'.repeat(20), '0102030405060708'];
  for (const id of ids) assert.ok(batch.addClaim(Buffer.from(`aa${id}`, 'hex'), 1, id.length / 2));
  assert.deepEqual(
    read(batch.bytes, batch.length),
    ids.map((id) => `claim of 3: ${id}`),
  );
  batch.clear();
  assert.deepEqual([batch.isEmpty, read(batch.bytes, batch.length)], [true, []]);
});

test('a message that is cut, or is none, is read no further than it goes', () => {
  const batch = new HandoffBatch('pass', 1);
  for (const peer of [v4, v6]) batch.addDatagram(new Uint8Array(32).fill(7), 0, 32, peer.bytes);
  const whole = batch.length;
  for (let length = 0; length < whole; length++) assert.ok(read(batch.bytes, length).length < 2);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 400 }), (noise) => {
      const bytes = new Uint8Array(Math.ceil(noise.length / 4) * 4 + 32);
      bytes.set(noise);
      bytes[0]! &= 3;
      // An address of another family would be the kernel's fault: it is not what is tested here.
      const said: number[] = [];
      readHandoff(new Int32Array(bytes.buffer), noise.length, {
        onDatagram: (_kind, _from, _word, offset, size) => said.push(offset + size),
        onClaim: (_from, offset, size) => said.push(offset + size),
      });
      assert.ok(said.every((end) => end <= noise.length));
    }),
  );
});
