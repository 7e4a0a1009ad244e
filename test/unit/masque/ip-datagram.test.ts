import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  DATAGRAM_OF_UNKNOWN_CONTEXT,
  DATAGRAM_WITHOUT_CONTEXT,
  ipPacketOffset,
  writeIpContext,
} from '../../../data-plane/masque/ip-datagram.ts';
import { hex } from '../http3/recording.ts';

const offsetIn = (payload: Uint8Array, start = 0) => ipPacketOffset(payload, start, payload.length);

test('item 19 context 0 is followed by a packet, also in a longer varint than necessary', () => {
  assert.equal(offsetIn(hex('00 4500')), 1);
  assert.equal(offsetIn(hex('4000 4500')), 2);
  assert.equal(offsetIn(hex('c000000000000000 45')), 8);
  assert.equal(offsetIn(hex('ff 00 45'), 1), 2);
  assert.equal(offsetIn(hex('00')), 1, 'an empty packet is for the IP layer to drop');
});

test('input 39 a missing context id and an unknown one are told apart', () => {
  assert.equal(offsetIn(hex('')), DATAGRAM_WITHOUT_CONTEXT);
  assert.equal(offsetIn(hex('40')), DATAGRAM_WITHOUT_CONTEXT);
  assert.equal(offsetIn(hex('02 45')), DATAGRAM_OF_UNKNOWN_CONTEXT);
  assert.equal(offsetIn(hex('ffffffffffffffff')), DATAGRAM_OF_UNKNOWN_CONTEXT);
});

test('what is written is read', () => {
  const target = new Uint8Array(4);
  assert.equal(offsetIn(target, 1), 1 + writeIpContext(target, 1));
});
