import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { setIntOption } from '../../../data-plane/os/libc.ts';
import { OsError } from '../../../data-plane/os/os-error.ts';
import { Poller } from '../../../data-plane/os/poller.ts';
import { UdpSocket, type UdpSocketOptions } from '../../../data-plane/udp/udp-socket.ts';

const SOL_SOCKET = 1;
const SO_NO_CHECK = 11;

const open: UdpSocket[] = [];
after(() => {
  for (const socket of open) socket.close();
});

function bind(address: string, options?: UdpSocketOptions): UdpSocket {
  const socket = UdpSocket.bind(address, options);
  open.push(socket);
  return socket;
}

/** Sends and receives by turns in this one thread; a datagram that is lost ends in a timeout of 5 s. */
function pump(to: UdpSocket, count: number, send: (i: number) => void, flush: () => void, batch = 100): Buffer[] {
  const arrived: Buffer[] = [];
  const poller = new Poller();
  poller.add(to.fd);
  for (let sent = 0; arrived.length < count; ) {
    const end = Math.min(count, sent + batch);
    while (sent < end) send(sent++);
    flush();
    while (arrived.length < sent) {
      assert.notEqual(poller.wait(5000), 0, `${arrived.length} of ${sent} datagrams arrived`);
      to.receive((bytes, offset, length) => arrived.push(Buffer.from(bytes.subarray(offset, offset + length))));
    }
  }
  return arrived;
}

/** Lengths as QUIC makes them: runs of one length, now and then something shorter or longer. */
function mixedSizes(count: number): Buffer[] {
  const noise = randomBytes(count);
  return Array.from({ length: count }, (_, i) => {
    const kind = noise[i]! % 16;
    const bytes = randomBytes(kind === 0 ? 1 + noise[(i * 7) % count]! : kind === 1 ? 1452 : kind === 2 ? 9000 : 1280);
    return bytes;
  });
}

it('an address that is shared is free for the first, and after it for those that join', () => {
  const alone = bind('127.0.0.1:0');
  const { text } = alone.localAddress;
  for (const share of ['first', 'join'] as const) assert.throws(() => bind(text, { share }), { code: 'EADDRINUSE' });
  alone.close();
  const first = bind(text, { share: 'first' });
  const second = bind(text, { share: 'join' });
  assert.throws(() => bind(text), { code: 'EADDRINUSE' });
  assert.throws(() => bind(text, { share: 'first' }), { code: 'EADDRINUSE' }, 'another program of several shards');
  const poller = new Poller();
  const got = new Map([first, second].map((socket) => [socket, 0]));
  for (const socket of got.keys()) poller.add(socket.fd);
  for (let i = 0; i < 40; i++) {
    const from = bind('127.0.0.1:0');
    from.queue(new Uint8Array(100), 0, 100, from.peers.fromText(text));
    from.flush();
    from.close();
    assert.notEqual(poller.wait(5_000), 0);
    for (const socket of got.keys()) got.set(socket, (got.get(socket) ?? 0) + socket.receive(() => {}));
  }
  const counts = [...got.values()];
  assert.equal(counts[0]! + counts[1]!, 40);
  assert.ok(Math.min(...counts) > 0, `the kernel spread 40 peers as ${counts}`);
});

for (const [family, address] of [
  ['IPv4', '127.0.0.1:0'],
  ['IPv6', '[::1]:0'],
] as const) {
  describe(`UdpSocket over ${family}`, () => {
    it('carries 5000 datagrams of mixed sizes, intact and in order, coalesced both ways', () => {
      const [from, to] = [bind(address), bind(address)];
      const datagrams = mixedSizes(5000);
      const peer = from.peers.fromText(to.localAddress.text);
      const arrived = pump(
        to,
        datagrams.length,
        (i) => from.queue(datagrams[i]!, 0, datagrams[i]!.length, peer),
        () => from.flush(),
      );
      assert.deepEqual(
        arrived.map((d) => d.length),
        datagrams.map((d) => d.length),
      );
      assert.ok(Buffer.concat(arrived).equals(Buffer.concat(datagrams)));
      const total = Buffer.concat(datagrams).length;
      assert.deepEqual([from.sent.datagrams, from.sent.bytes], [5000, total]);
      assert.deepEqual([to.received.datagrams, to.received.bytes], [5000, total]);
      assert.deepEqual([from.sent.dropped, from.sent.errors, to.received.errors, to.received.truncated], [0, 0, 0, 0]);
      assert.ok(from.sent.calls < 2500, `${from.sent.calls} calls for 5000 datagrams`);
      assert.ok(to.received.batches < 2500, `${to.received.batches} calls for 5000 datagrams`);
    });

    it('names the sender of each datagram, so that it can be answered', () => {
      const [server, a, b] = [bind(address), bind(address), bind(address)];
      const serverAddress = server.localAddress;
      for (const [socket, text] of [
        [a, 'a'],
        [b, 'b'],
        [a, 'a'],
      ] as const) {
        socket.queue(Buffer.from(text), 0, 1, serverAddress);
        socket.flush();
      }
      const seen: string[] = [];
      const answer = Buffer.from('answer');
      while (seen.length < 3) {
        server.receive((bytes, offset, _length, peer) => {
          seen.push(`${String.fromCharCode(bytes[offset]!)} ${peer.text}`);
          server.queue(answer, 0, answer.length, peer);
        });
      }
      server.flush();
      assert.deepEqual(seen, [`a ${a.localAddress.text}`, `b ${b.localAddress.text}`, `a ${a.localAddress.text}`]);
      const answers = (socket: UdpSocket) => {
        let count = 0;
        while (socket.receive(() => count++) > 0);
        return count;
      };
      assert.deepEqual([answers(a), answers(b)], [2, 1]);
    });

    it('goes on without UDP_GRO', () => {
      const [from, to] = [bind(address), bind(address, { gro: false })];
      assert.deepEqual([from.gro, to.gro], [true, false]);
      const datagrams = mixedSizes(200);
      const peer = to.localAddress;
      const arrived = pump(
        to,
        200,
        (i) => from.queue(datagrams[i]!, 0, datagrams[i]!.length, peer),
        () => from.flush(),
      );
      assert.ok(Buffer.concat(arrived).equals(Buffer.concat(datagrams)));
    });
  });
}

describe('UdpSocket', () => {
  it('says what is wrong with an address that it cannot bind', () => {
    const taken = bind('127.0.0.1:0').localAddress.text;
    assert.throws(
      () => UdpSocket.bind(taken),
      (error: unknown) =>
        error instanceof OsError &&
        error.code === 'EADDRINUSE' &&
        error.message === `bind ${taken}: address already in use`,
    );
    assert.throws(() => UdpSocket.bind('192.0.2.99:0'), { code: 'EADDRNOTAVAIL' });
    assert.throws(() => UdpSocket.bind('example.org:443'), { code: 'INVALID_SOCKET_ADDRESS' });
  });

  it('keeps [::] to IPv6 unless asked for both', () => {
    const client = bind('127.0.0.1:0');
    const only = bind('[::]:0');
    bind(`0.0.0.0:${only.localAddress.port}`);
    const both = bind('[::]:0', { dualStack: true });
    client.queue(Buffer.from('x'), 0, 1, client.peers.fromText(`127.0.0.1:${both.localAddress.port}`));
    client.flush();
    const from: string[] = [];
    both.receive((_bytes, _offset, _length, peer) => from.push(peer.text));
    assert.deepEqual(from, [`[::ffff:7f00:1]:${client.localAddress.port}`]);
  });

  it('counts what cannot be sent and goes on', () => {
    const from = bind('127.0.0.1:0');
    const to = bind('127.0.0.1:0');
    const bytes = Buffer.alloc(1200);
    for (let i = 0; i < 3; i++) from.queue(bytes, 0, bytes.length, from.peers.fromText('[::1]:9'));
    from.queue(bytes, 0, 10, to.localAddress);
    from.flush();
    assert.equal(from.sent.errors, 3);
    assert.notEqual(from.sent.lastErrno, 0);
    assert.equal(from.sent.datagrams, 1);
    assert.equal(
      to.receive(() => {}),
      1,
    );
  });

  it('drops and counts when the receiver or its own buffer is full, without blocking', () => {
    const to = bind('127.0.0.1:0', { recvBufferBytes: 4096 });
    const from = bind('127.0.0.1:0');
    const bytes = Buffer.alloc(1200);
    for (let i = 0; i < 2000; i++) from.queue(bytes, 0, bytes.length, to.localAddress);
    from.flush();
    assert.equal(from.sent.datagrams + from.sent.dropped, 2000);
    let arrived = 0;
    while (to.receive(() => arrived++) > 0);
    assert.ok(arrived < 2000, `${arrived} arrived through a buffer for a few`);
  });

  it('sends one by one what the kernel refuses as a run, and soon stops to offer runs', () => {
    const [from, to] = [bind('127.0.0.1:0'), bind('127.0.0.1:0')];
    // Linux answers EINVAL to UDP_SEGMENT on a socket that sends without checksums.
    assert.ok(setIntOption(from.fd, SOL_SOCKET, SO_NO_CHECK, 1));
    const datagrams = Array.from({ length: 200 }, () => randomBytes(1000));
    const send = (i: number) => from.queue(datagrams[i]!, 0, 1000, to.localAddress);
    const arrived = pump(to, datagrams.length, send, () => from.flush(), 10);
    assert.ok(Buffer.concat(arrived).equals(Buffer.concat(datagrams)));
    assert.deepEqual([from.sent.gsoFallbacks, from.sent.usesGso], [8, false]);
    assert.deepEqual([from.sent.datagrams, from.sent.errors, from.sent.calls], [200, 0, 208]);
  });

  it('refuses ranges outside of the buffer and use after close', () => {
    const socket = bind('127.0.0.1:0');
    const bytes = Buffer.alloc(10);
    for (const [offset, length] of [
      [0, 0],
      [0, 11],
      [5, 6],
      [-1, 2],
      [0, -1],
    ] as const) {
      assert.throws(() => socket.queue(bytes, offset, length, socket.localAddress), RangeError);
    }
    socket.close();
    socket.close();
    assert.throws(() => socket.receive(() => {}), { code: 'EBADF' });
    assert.throws(() => socket.queue(bytes, 0, 10, socket.localAddress), { code: 'EBADF' });
    assert.throws(() => socket.flush(), { code: 'EBADF' });
  });

  it('has the buffers that were asked for, as far as the system allows', () => {
    const small = bind('127.0.0.1:0', { recvBufferBytes: 16 * 1024 }).recvBufferBytes;
    const large = bind('127.0.0.1:0', { recvBufferBytes: 512 * 1024 }).recvBufferBytes;
    assert.ok(small < large, `${small} ${large}`);
  });
});
