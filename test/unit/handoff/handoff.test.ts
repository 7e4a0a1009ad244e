import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { Handoff } from '../../../data-plane/handoff/handoff.ts';
import { HandoffSockets } from '../../../data-plane/handoff/handoff-sockets.ts';
import { parseSocketAddress } from '../../../data-plane/udp/socket-address.ts';
import { SocketAddressCache } from '../../../data-plane/udp/socket-address-cache.ts';

const peer = parseSocketAddress('192.0.2.7:50000');
const ID_BYTES = 20;

/** Shards in this one thread, each with the connections whose ids it is told. */
function shards(t: TestContext, count: number) {
  const sockets = new HandoffSockets(count);
  t.after(() => sockets.close());
  return Array.from({ length: count }, (_, shard) => {
    const own = new Set<string>();
    const got: string[] = [];
    const handoff = new Handoff({
      shard,
      descriptors: sockets.of(shard),
      peers: new SocketAddressCache(),
      take: (bytes, offset, length, from) => {
        const id = Buffer.from(bytes.subarray(offset + 1, offset + 1 + ID_BYTES)).toString('hex');
        if (!own.has(id)) return false;
        got.push(`${from.text} ${length}`);
        return true;
      },
    });
    return { own, got, handoff };
  });
}

/** A packet with a short header (RFC 9000 17.3.1). */
function shortPacket(id: Uint8Array, length = 100): Uint8Array {
  const bytes = randomBytes(length);
  bytes[0] = 0x40;
  bytes.set(id, 1);
  return bytes;
}

function offer({ handoff }: { handoff: Handoff }, packet: Uint8Array, nowMs = 0): void {
  handoff.offer(packet, 0, packet.length, peer, nowMs);
  handoff.flush();
}

function receiveAll(all: readonly { handoff: Handoff }[], nowMs = 0): void {
  for (let more = true; more; ) more = all.map(({ handoff }) => handoff.receive(nowMs)).some(Boolean);
}

test('all are asked about an unknown connection once; then the one that has it gets its datagrams alone', (t) => {
  const all = shards(t, 3);
  const [first, second, third] = all as [(typeof all)[0], (typeof all)[0], (typeof all)[0]];
  const id = randomBytes(ID_BYTES);
  third.own.add(id.toString('hex'));
  offer(first, shortPacket(id, 100));
  receiveAll(all);
  assert.deepEqual(third.got, ['192.0.2.7:50000 100']);
  for (let i = 0; i < 500; i++) {
    offer(first, shortPacket(id, 1200));
    receiveAll(all);
  }
  assert.equal(third.got.length, 501);
  assert.deepEqual(first.handoff.counts, { asked: 1, passed: 500, taken: 0, dropped: 0 });
  assert.deepEqual(second.handoff.counts, { asked: 0, passed: 0, taken: 0, dropped: 0 });
  assert.deepEqual(third.handoff.counts, { asked: 0, passed: 0, taken: 501, dropped: 0 });

  first.handoff.sweep(120_000);
  offer(first, shortPacket(id), 120_000);
  assert.equal(first.handoff.counts.asked, 2, 'what nobody used for long is asked for again');
});

test('nobody hands on what was handed to it', (t) => {
  const all = shards(t, 3);
  offer(all[0]!, shortPacket(randomBytes(ID_BYTES)));
  receiveAll(all);
  assert.deepEqual(
    all.map(({ handoff }) => handoff.counts.asked + handoff.counts.passed),
    [1, 0, 0],
  );
});

test("strangers' garbage is asked about a thousand times a second, and does not keep known clients out", (t) => {
  const all = shards(t, 2);
  const [first, second] = all as [(typeof all)[0], (typeof all)[0]];
  const id = randomBytes(ID_BYTES);
  second.own.add(id.toString('hex'));
  offer(first, shortPacket(id));
  receiveAll(all);
  for (let ms = 0; ms < 1_000; ms++) {
    for (let i = 0; i < 20; i++) offer(first, shortPacket(randomBytes(ID_BYTES)), ms);
    offer(first, shortPacket(id), ms);
    receiveAll(all, ms);
  }
  const { asked, passed, dropped } = first.handoff.counts;
  assert.ok(asked >= 1_000 && asked <= 1_300, `${asked} asked`);
  assert.equal(passed, 1_000);
  assert.equal(asked + dropped, 20_001);
  assert.equal(second.got.length, 1_001);
});

test('what is no packet, or too long for one, is not handed on', (t) => {
  const [first] = shards(t, 2);
  offer(first!, new Uint8Array([0x40, 1, 2]));
  offer(first!, shortPacket(randomBytes(ID_BYTES), 3_000));
  assert.deepEqual(first!.handoff.counts, { asked: 0, passed: 0, taken: 0, dropped: 2 });
});

test('a shard that does not read costs the sender its datagrams, counted, and nothing else', (t) => {
  const all = shards(t, 2);
  const [first, second] = all as [(typeof all)[0], (typeof all)[0]];
  const id = randomBytes(ID_BYTES);
  second.own.add(id.toString('hex'));
  offer(first, shortPacket(id));
  receiveAll(all);
  for (let i = 0; i < 20_000; i++) offer(first, shortPacket(id, 1400));
  receiveAll(all);
  const { passed, dropped } = first.handoff.counts;
  assert.equal(passed + dropped, 20_000);
  assert.ok(dropped > 0 && passed > 0, `${passed} passed`);
  assert.equal(second.got.length, 1 + passed);
});
