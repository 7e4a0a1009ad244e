import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConnectionIdTable } from '../../../data-plane/quic/connection-id-table.ts';
import { createConnectionIds, readConnectionIds } from '../../../data-plane/quic/packet-header.ts';

const OWN_ID_BYTES = 20;
const connectionId = fc.uint8Array({ maxLength: 20 });

function longHeader(destination: Uint8Array, source: Uint8Array): Buffer {
  const ids = [destination, source].map((id) => Buffer.concat([Buffer.of(id.length), id]));
  return Buffer.concat([Buffer.of(0xc3, 0, 0, 0, 1), ...ids]);
}

test('RFC 8999 5.1: the ids of a long header are found at any offset, and not in any part of it', () => {
  fc.assert(
    fc.property(connectionId, connectionId, fc.nat(40), (destination, source, before) => {
      const header = longHeader(destination, source);
      const bytes = Buffer.concat([Buffer.alloc(before, 0xff), header]);
      const ids = createConnectionIds();
      assert.equal(readConnectionIds(bytes, before, header.length, OWN_ID_BYTES, ids), 'long');
      assert.deepEqual(
        [
          bytes.subarray(ids.destinationOffset, ids.destinationOffset + ids.destinationLength),
          bytes.subarray(ids.sourceOffset, ids.sourceOffset + ids.sourceLength),
        ],
        [Buffer.from(destination), Buffer.from(source)],
      );
      for (let length = 0; length < header.length; length++) {
        assert.equal(readConnectionIds(bytes, before, length, OWN_ID_BYTES, ids), 'invalid', `${length} bytes`);
      }
    }),
  );
});

test('RFC 8999 5.2: a short header has our id behind its first byte', () => {
  const packet = Buffer.concat([Buffer.of(0x40), Buffer.alloc(OWN_ID_BYTES, 7), Buffer.alloc(5)]);
  const ids = createConnectionIds();
  assert.equal(readConnectionIds(packet, 0, packet.length, OWN_ID_BYTES, ids), 'short');
  assert.deepEqual([ids.destinationOffset, ids.destinationLength, ids.sourceLength], [1, OWN_ID_BYTES, 0]);
  assert.equal(readConnectionIds(packet, 0, OWN_ID_BYTES, OWN_ID_BYTES, ids), 'invalid');
});

test('ids beyond 20 bytes are no packet of QUIC version 1', () => {
  const packet = longHeader(Buffer.alloc(21), Buffer.alloc(8));
  assert.equal(readConnectionIds(packet, 0, packet.length, OWN_ID_BYTES, createConnectionIds()), 'invalid');
});

test('the table of connection ids does what a Map does', () => {
  const key = fc.uint8Array({ minLength: 0, maxLength: 3 });
  const command = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), key, value: fc.nat(7) }),
    fc.record({ kind: fc.constant('get' as const), key }),
    fc.record({ kind: fc.constant('sweep' as const), value: fc.nat(7) }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 600 }), (commands) => {
      const table = new ConnectionIdTable();
      const model = new Map<string, number>();
      for (const one of commands) {
        if (one.kind === 'sweep') {
          table.sweep((value) => value === one.value);
          for (const [id, value] of model) if (value === one.value) model.delete(id);
        } else {
          const id = Buffer.from(one.key).toString('hex');
          if (one.kind === 'set') {
            table.set(one.key, 0, one.key.length, one.value, 0);
            model.set(id, one.value);
          }
          assert.equal(table.get(one.key, 0, one.key.length, 0), model.get(id) ?? -1);
        }
        assert.equal(table.size, model.size);
      }
    }),
  );
});

test('entries that nobody asked for are swept out', () => {
  const table = new ConnectionIdTable();
  table.set(Buffer.from('old'), 0, 3, 1, 0);
  table.set(Buffer.from('new'), 0, 3, 2, 0);
  table.get(Buffer.from('new'), 0, 3, 100);
  table.sweep((_value, usedAt) => usedAt < 50);
  assert.equal(table.get(Buffer.from('old'), 0, 3, 100), -1);
  assert.equal(table.get(Buffer.from('new'), 0, 3, 100), 2);
});
