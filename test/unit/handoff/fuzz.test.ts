import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  HandoffBatch,
  type HandoffKind,
  MAX_HANDED_BYTES,
  readHandoff,
} from '../../../data-plane/handoff/handoff-batch.ts';
import { MAX_CONNECTION_ID_BYTES } from '../../../data-plane/quic/packet-header.ts';
import { parseSocketAddress } from '../../../data-plane/udp/socket-address.ts';
import { fuzz, hostile } from '../../support/fuzz.ts';

const SOCKADDR = parseSocketAddress('[2001:db8::1]:4433').bytes;
const bytes = fc.uint8Array({ minLength: 1, maxLength: 60 });
const filled = (kind: HandoffKind, from: number, records: readonly Uint8Array[]): Uint8Array => {
  const batch = new HandoffBatch(kind, from);
  for (const record of records) {
    if (kind === 'claim') batch.addClaim(record, 0, Math.min(record.length, MAX_CONNECTION_ID_BYTES));
    else batch.addDatagram(record, 0, record.length, SOCKADDR);
  }
  return batch.bytes.slice(0, batch.length);
};

/** What a message says, read from a buffer that goes on with something else. */
function read(message: Uint8Array): string[] {
  const buffer = new Uint8Array(Math.ceil(message.length / 4) * 4 + 64).fill(0xff);
  buffer.set(message);
  const heard: string[] = [];
  const text = (offset: number, length: number): string => {
    assert.ok(length >= 0 && offset + length <= message.length, `${offset}+${length} of ${message.length}`);
    return Buffer.from(buffer.subarray(offset, offset + length)).toString('hex');
  };
  readHandoff(new Int32Array(buffer.buffer), message.length, {
    onDatagram: (kind, from, sockaddrWord, offset, length) => {
      assert.ok(sockaddrWord * 4 + SOCKADDR.length <= offset);
      heard.push(`${kind} ${from} ${text(offset, length)}`);
    },
    onClaim: (from, offset, length) => heard.push(`claim ${from} ${text(offset, length)}`),
  });
  return heard;
}

test('messages between shards: read as written, and within their end whatever they are', () => {
  const kind = fc.constantFrom<HandoffKind>('ask', 'pass', 'claim');
  const records = fc.array(bytes, { maxLength: 5 });
  fuzz(kind, fc.nat(63), records, (of, from, all) => {
    const expected = all.map((record) => {
      const kept = of === 'claim' ? record.subarray(0, MAX_CONNECTION_ID_BYTES) : record;
      return `${of} ${from} ${Buffer.from(kept).toString('hex')}`;
    });
    assert.deepEqual(read(filled(of, from, all)), expected);
  });
  const valid = fc.tuple(kind, fc.nat(63), records).map(([of, from, all]) => filled(of, from, all));
  fuzz(hostile(valid), (message) => {
    assert.ok(read(message).length <= message.length / 4);
  });
  assert.ok(MAX_HANDED_BYTES > 1_452);
});
