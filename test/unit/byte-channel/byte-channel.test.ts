import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import {
  ByteChannel,
  CONTROL_RESERVE_BYTES,
  MAX_PACKET_QUEUE_BYTES,
  PACKET_QUEUE_BYTES,
  SHORT_RESERVE_BYTES,
} from '../../../data-plane/byte-channel/byte-channel.ts';
import { queuePacket } from '../../../data-plane/byte-channel/queue-packet.ts';
import { SOCKET_PAIR_BYTES, socketPair } from '../../../data-plane/byte-channel/socket-pair.ts';
import { CapsuleReader } from '../../../data-plane/masque/capsule-reader.ts';
import { closeQuietly, read, shutdown, write } from '../../../data-plane/os/libc.ts';
import type { LoopSources } from '../../../data-plane/packet-thread/packet-loop.ts';

const SHUT_WR = 1;

/** A channel whose loop is the test; `peer` is the descriptor of the other end. */
function openChannel(t: TestContext) {
  const [own, peer] = socketPair();
  const watched = new Map<number, boolean>();
  const sources: LoopSources = {
    add: (fd) => watched.set(fd, false),
    remove: (fd) => watched.delete(fd),
    watchWritable: (fd, wanted) => watched.set(fd, wanted),
  };
  const came: Buffer[] = [];
  const ends: ('last word' | 'gone')[] = [];
  const channel = new ByteChannel(own, sources, {
    onBytes: (bytes) => came.push(Buffer.from(bytes)),
    onEnd: (gone) => ends.push(gone ? 'gone' : 'last word'),
  });
  let peerOpen = true;
  const closePeer = () => {
    if (peerOpen) closeQuietly(peer);
    peerOpen = false;
  };
  t.after(() => {
    channel.close();
    closePeer();
  });
  const room = new Uint8Array(1024 * 1024);
  return {
    channel,
    came: () => Buffer.concat(came),
    ends,
    /** Whether the loop watches it, and if so whether for writing too. */
    watched: () => watched.get(own),
    closePeer,
    /** The other end says its last; it still reads. */
    endPeer: () => shutdown(peer, SHUT_WR),
    write: (bytes: Uint8Array) => write(peer, bytes, bytes.length),
    /** What the other end can read; undefined: the end. */
    read: () => {
      const length = read(peer, room, room.length);
      return length === 0 ? undefined : Buffer.from(room.subarray(0, Math.max(0, length)));
    },
  };
}

const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => i % 251);

test('what is queued in a turn leaves together when it ends', (t) => {
  const { channel, read } = openChannel(t);
  channel.send(Uint8Array.of(1, 2));
  channel.target.set([3, 4], channel.reserve(2));
  channel.send(Uint8Array.of(5));
  assert.equal(read()?.length, 0);
  channel.flush();
  assert.deepEqual(read(), Buffer.of(1, 2, 3, 4, 5));
  assert.equal(channel.queuedBytes, 0);
});

test('bytes come as they are, and no more is read than one turn may take', (t) => {
  const { channel, came, write } = openChannel(t);
  const sent = bytes(100_000);
  assert.equal(write(sent), sent.length);
  channel.drain();
  assert.ok(came().length < sent.length, 'there is more');
  channel.drain();
  assert.deepEqual(came(), Buffer.from(sent));
  channel.drain();
  assert.deepEqual(came(), Buffer.from(sent));
});

test('a peer that reads nothing costs a bounded number of bytes: packets are refused, control is not, and then that is', (t) => {
  const { channel, read, watched } = openChannel(t);
  const packet = bytes(1_000);
  let accepted = 0;
  while (queuePacket(channel, packet, 0, packet.length)) {
    accepted++;
    channel.flush();
    assert.ok(accepted < 10_000);
  }
  assert.ok(accepted * 1_004 <= SOCKET_PAIR_BYTES + MAX_PACKET_QUEUE_BYTES, `${accepted} packets`);
  assert.ok(channel.queuedBytes <= MAX_PACKET_QUEUE_BYTES);
  assert.equal(watched(), true, 'it waits for room');
  const ping = bytes(84);
  let pings = 0;
  while (queuePacket(channel, ping, 0, ping.length)) pings++;
  assert.ok(pings * 88 > SHORT_RESERVE_BYTES - 100, `${pings} short packets still went in`);
  assert.ok(channel.queuedBytes <= MAX_PACKET_QUEUE_BYTES + SHORT_RESERVE_BYTES);
  const control = bytes(10_000);
  let controls = 0;
  while (channel.send(control)) controls++;
  assert.ok(channel.queuedBytes <= MAX_PACKET_QUEUE_BYTES + SHORT_RESERVE_BYTES + CONTROL_RESERVE_BYTES);
  assert.ok(controls >= Math.floor(CONTROL_RESERVE_BYTES / control.length), `${controls}`);

  // Once it reads, all that was accepted arrives, whole and in order.
  const arrived: Buffer[] = [];
  for (let chunk = read(); chunk !== undefined && chunk.length > 0; chunk = read()) {
    arrived.push(chunk);
    channel.writable();
  }
  const expected = Buffer.concat([
    ...Array.from({ length: accepted }, () => Buffer.concat([Buffer.from('0043e900', 'hex'), packet])),
    ...Array.from({ length: pings }, () => Buffer.concat([Buffer.from('00405500', 'hex'), ping])),
    ...Array.from({ length: controls }, () => control),
  ]);
  assert.ok(Buffer.concat(arrived).equals(expected));
  assert.equal(watched(), false, 'there is nothing to wait for');
  assert.equal(queuePacket(channel, packet, 0, packet.length), true);
});

test('a slow peer has a short queue: nothing more is taken when what was queued waits for 50 ms', (t) => {
  const { channel, read } = openChannel(t);
  t.mock.method(performance, 'now', () => nowMs);
  let nowMs = 1_000;
  const packet = bytes(1_000);
  const fill = () => {
    let taken = 0;
    while (channel.queuedBytes < 2 * PACKET_QUEUE_BYTES && queuePacket(channel, packet, 0, packet.length)) {
      channel.flush();
      taken++;
    }
    return taken;
  };
  assert.ok(fill() > 0);
  assert.ok(channel.queuedBytes > PACKET_QUEUE_BYTES, 'more than that is taken at first');
  nowMs += 51;
  assert.equal(queuePacket(channel, packet, 0, packet.length), false);
  // It reads, and so shows that the wait is over.
  for (let chunk = read(); chunk !== undefined && chunk.length > 0; chunk = read()) channel.writable();
  assert.equal(channel.queuedBytes, 0);
  assert.ok(fill() > 0);
  assert.ok(channel.queuedBytes > PACKET_QUEUE_BYTES);
});

test('packets come out of their capsules byte for byte, short and long ones', (t) => {
  const { channel, read } = openChannel(t);
  const lengths = [20, 62, 63, 64, 1_400, 16_382, 16_383, 65_535];
  for (const length of lengths) {
    const packet = bytes(length + 5);
    assert.equal(queuePacket(channel, packet, 5, length), true);
  }
  channel.flush();
  const payloads: Buffer[] = [];
  const none = () => {};
  new CapsuleReader({
    onAddressAssign: none,
    onAddressRequest: none,
    onRouteAdvertisement: none,
    onDatagram: (payload) => payloads.push(Buffer.from(payload)),
  }).push(read() ?? Buffer.of());
  assert.deepEqual(
    payloads,
    lengths.map((length) => Buffer.concat([Buffer.of(0), bytes(length + 5).subarray(5)])),
  );
});

test('the end is told once, after all bytes before it, and the loop watches no more', (t) => {
  const { channel, came, ends, write, endPeer, watched } = openChannel(t);
  write(Uint8Array.of(1, 2, 3));
  endPeer();
  channel.drain();
  assert.deepEqual([came(), ends], [Buffer.of(1, 2, 3), []]);
  channel.drain();
  assert.deepEqual([ends, watched()], [['last word'], undefined]);
});

test('a peer that is gone without a last word is told from one that has said it', (t) => {
  const { channel, came, ends, write, closePeer, watched } = openChannel(t);
  write(Uint8Array.of(1, 2, 3));
  closePeer();
  channel.drain();
  assert.deepEqual([came(), ends], [Buffer.of(1, 2, 3), []]);
  channel.drain();
  assert.deepEqual([ends, watched()], [['gone'], undefined]);
});

test('a peer that closes with bytes unread is gone like any other, and writing to it is no error', (t) => {
  const { channel, ends, closePeer } = openChannel(t);
  channel.send(bytes(100));
  channel.flush();
  closePeer();
  channel.send(bytes(100));
  channel.flush();
  assert.equal(queuePacket(channel, bytes(20), 0, 20), false);
  assert.equal(channel.send(bytes(20)), true);
  channel.drain();
  assert.deepEqual(ends, ['gone']);
});

test('our end comes after what is queued, and nothing after it; the other way stays open', (t) => {
  const { channel, came, read, write } = openChannel(t);
  const packet = bytes(60_000);
  let queued = 0;
  for (; channel.queuedBytes < 100_000; queued++) {
    queuePacket(channel, packet, 0, packet.length);
    if (queued > 2) channel.flush();
  }
  channel.end();
  assert.equal(queuePacket(channel, packet, 0, packet.length), false);
  let arrived = 0;
  for (let chunk = read(); chunk !== undefined; chunk = read()) {
    arrived += chunk.length;
    channel.writable();
  }
  assert.equal(arrived, queued * 60_006);
  write(Uint8Array.of(7));
  channel.drain();
  assert.deepEqual(came(), Buffer.of(7));
});

test('it closes its descriptor once: the number may be that of another by then', (t) => {
  const before = readdirSync('/proc/self/fd').length;
  const { channel, closePeer, watched } = openChannel(t);
  channel.close();
  closePeer();
  assert.equal(watched(), undefined);
  const [next, other] = socketPair();
  channel.close();
  channel.flush();
  channel.end();
  assert.equal(write(next, Uint8Array.of(1), 1), 1);
  closeQuietly(next);
  closeQuietly(other);
  assert.equal(readdirSync('/proc/self/fd').length, before);
});
