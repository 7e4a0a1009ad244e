import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { MAX_DATAGRAM_PAYLOAD, MAX_QUEUED_DATAGRAMS } from '../../../data-plane/quic/core-handle.ts';
import { QuicEndpoint, type QuicEvents } from '../../../data-plane/quic/quic-endpoint.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';

const SERVER = '198.51.100.2:4433';
const CLIENT = '198.51.100.7:5555';
let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate(['node-a.test', '198.51.100.2']);
});

class Recorder implements QuicEvents {
  readonly seen: string[] = [];
  readonly datagrams: Buffer[] = [];
  readonly streams = new Map<number, { bytes: Buffer; fin: boolean }>();

  onConnection(connection: number, peer: string): void {
    this.seen.push(`connection ${connection} ${peer}`);
  }
  onHandshakeComplete(): void {
    this.seen.push('handshake');
  }
  onStreamData(_connection: number, streamId: number, bytes: Uint8Array, fin: boolean): void {
    const before = this.streams.get(streamId) ?? { bytes: Buffer.alloc(0), fin: false };
    this.streams.set(streamId, { bytes: Buffer.concat([before.bytes, bytes]), fin: before.fin || fin });
  }
  onStreamReset(_connection: number, streamId: number, errorCode: number): void {
    this.seen.push(`reset ${streamId} ${errorCode.toString(16)}`);
  }
  onDatagram(_connection: number, bytes: Uint8Array, offset: number, length: number): void {
    this.datagrams.push(Buffer.from(bytes.subarray(offset, offset + length)));
  }
  onClosed(_connection: number, errorCode: number, reason: string): void {
    this.seen.push(`closed ${errorCode.toString(16)} ${reason}`);
  }
}

class Pair {
  readonly serverEvents = new Recorder();
  readonly clientEvents = new Recorder();
  readonly server: QuicEndpoint;
  readonly client: QuicEndpoint;

  constructor(serverName = 'node-a.test') {
    const { cert, key, ca } = pem;
    const server = { role: 'server', cert, key, localAddress: SERVER, maxConnections: 10 } as const;
    this.server = new QuicEndpoint(server, this.serverEvents, () => {});
    const client = { role: 'client', localAddress: CLIENT, serverAddress: SERVER, serverName, ca } as const;
    this.client = new QuicEndpoint(client, this.clientEvents, () => {});
  }

  exchange(): void {
    for (let round = 0, moved = 1; moved > 0 && round < 200; round++) {
      moved = 0;
      this.client.flush((bytes, offset, length, peer) => {
        assert.equal(peer, SERVER);
        this.server.receive(bytes.slice(offset, offset + length), 0, length, CLIENT);
        moved++;
      });
      this.server.processEvents();
      this.server.flush((bytes, offset, length, peer) => {
        assert.equal(peer, CLIENT);
        this.client.receive(bytes.slice(offset, offset + length), 0, length, SERVER);
        moved++;
      });
      this.client.processEvents();
    }
  }
}

function sendDatagram(endpoint: QuicEndpoint, bytes: Uint8Array): boolean {
  if (bytes.length <= MAX_DATAGRAM_PAYLOAD) endpoint.datagramTarget.set(bytes, endpoint.datagramOffset);
  return endpoint.sendDatagram(0, bytes.length);
}

test('a handshake completes at both ends and names the peer', () => {
  const pair = new Pair();
  pair.exchange();
  assert.deepEqual(pair.serverEvents.seen, [`connection 0 ${CLIENT}`, 'handshake']);
  assert.deepEqual(pair.clientEvents.seen, ['handshake']);
});

test('a URL with an address is served by a certificate that has it as a name', () => {
  const pair = new Pair('198.51.100.2');
  pair.exchange();
  assert.deepEqual(pair.clientEvents.seen, ['handshake']);
});

test('a client refuses a certificate for another name', () => {
  const pair = new Pair('node-b.test');
  pair.exchange();
  assert.ok(!pair.clientEvents.seen.includes('handshake'));
  assert.ok(!pair.serverEvents.seen.includes('handshake'));
});

test('streams of any id carry bytes both ways, beyond the flow control window', () => {
  const pair = new Pair();
  pair.exchange();
  const long = Buffer.alloc(3_000_000, 'stream ');
  pair.client.sendStream(0, 0, long, true);
  pair.server.sendStream(0, 3, Buffer.from('control'), false);
  pair.exchange();
  const got = pair.serverEvents.streams.get(0)?.bytes ?? Buffer.alloc(0);
  assert.equal(got.length, long.length);
  assert.ok(got.equals(long));
  assert.equal(pair.serverEvents.streams.get(0)?.fin, true);
  assert.equal(pair.clientEvents.streams.get(3)?.bytes.toString(), 'control');
});

test('a reset tells its error code and leaves other streams alone', () => {
  const pair = new Pair();
  pair.exchange();
  pair.client.sendStream(0, 0, Buffer.from('a'), false);
  pair.client.sendStream(0, 4, Buffer.from('b'), false);
  pair.exchange();
  pair.server.resetStream(0, 0, 0x10e);
  pair.server.sendStream(0, 4, Buffer.from('c'), true);
  pair.exchange();
  assert.ok(pair.clientEvents.seen.includes('reset 0 10e'), pair.clientEvents.seen.join());
  assert.equal(pair.clientEvents.streams.get(4)?.bytes.toString(), 'c');
});

test('item 1 datagrams of every length up to the longest arrive, longer ones are refused', () => {
  const pair = new Pair();
  pair.exchange();
  const send = (length: number): boolean => sendDatagram(pair.client, Buffer.alloc(length, length));
  assert.equal(send(MAX_DATAGRAM_PAYLOAD + 1), false);
  for (const length of [1, 100, MAX_DATAGRAM_PAYLOAD]) assert.equal(send(length), true, `${length} bytes`);
  pair.exchange();
  assert.deepEqual(
    pair.serverEvents.datagrams.map((d) => [d.length, d.every((byte) => byte === (d.length & 0xff))]),
    [
      [1, true],
      [100, true],
      [MAX_DATAGRAM_PAYLOAD, true],
    ],
  );
});

test('a handler may send while it is given a datagram', () => {
  const pair = new Pair();
  pair.exchange();
  pair.serverEvents.onDatagram = (_c, bytes, offset, length) => {
    sendDatagram(pair.server, bytes.slice(offset, offset + length).reverse());
  };
  sendDatagram(pair.client, Uint8Array.of(1, 2, 3));
  sendDatagram(pair.client, Uint8Array.of(4, 5, 6));
  pair.exchange();
  assert.deepEqual(
    pair.clientEvents.datagrams.map((d) => [...d]),
    [
      [3, 2, 1],
      [6, 5, 4],
    ],
  );
});

test('a close carries its code and reason, and garbage costs nothing', () => {
  const pair = new Pair();
  pair.exchange();
  const garbage = Buffer.from('this is no QUIC packet at all'.repeat(40));
  pair.server.receive(garbage, 0, garbage.length, '198.51.100.9:1');
  pair.client.closeConnection(0, 0x100, 'done');
  pair.exchange();
  for (let i = 0; i < 3; i++) pair.server.onTimeout();
  pair.server.processEvents();
  assert.equal(pair.server.pathStatistics(99), undefined);
  assert.ok(
    pair.serverEvents.seen.every((line) => !line.includes('198.51.100.9')),
    pair.serverEvents.seen.join(),
  );
});

test('a stream whose peer takes nothing is reset before it fills the memory', () => {
  const pair = new Pair();
  pair.exchange();
  for (let sent = 0; sent < 10_000_000; sent += 100_000) pair.client.sendStream(0, 0, Buffer.alloc(100_000), false);
  pair.exchange();
  assert.ok(pair.serverEvents.seen.includes('reset 0 107'), pair.serverEvents.seen.join());
  assert.ok(pair.clientEvents.seen.includes('reset 0 107'), pair.clientEvents.seen.join());
  assert.ok(pair.client.memoryBytes < 64 * 1024 * 1024, `${pair.client.memoryBytes} bytes`);
});

test('9000-13.2.1 what only has to be acknowledged waits a few milliseconds or for company, what is to be sent does not', () => {
  const pair = new Pair();
  const { client, server } = pair;
  assert.equal(client.flushDueMs, 0, 'the first packet of a handshake');
  pair.exchange();
  assert.equal(server.flushDueMs, Number.POSITIVE_INFINITY, 'nothing to do');

  const toServer = (): void =>
    client.flush((bytes, offset, length) => {
      server.receive(bytes.slice(offset, offset + length), 0, length, CLIENT);
      server.processEvents();
    });
  sendDatagram(client, Buffer.of(1));
  assert.equal(client.flushDueMs, 0);
  const before = performance.now();
  toServer();
  const dueMs = server.flushDueMs;
  assert.ok(dueMs > before && dueMs <= performance.now() + 25, `due at ${dueMs}, begun at ${before}`);
  sendDatagram(server, Buffer.of(2));
  assert.equal(server.flushDueMs, 0, 'it goes with what is sent');
  pair.exchange();

  for (let i = 0; i < 16; i++) {
    assert.notEqual(server.flushDueMs, 0, `after ${i} packets`);
    sendDatagram(client, Buffer.of(i));
    toServer();
  }
  assert.equal(server.flushDueMs, 0, 'enough of them');
  pair.exchange();

  client.sendStream(0, 0, Buffer.from('request'), false);
  toServer();
  assert.equal(server.flushDueMs, 0, 'a stream');
});

test('datagrams for a peer that acknowledges nothing wait in a queue with a bound, and go in order when it does', () => {
  const pair = new Pair();
  pair.exchange();
  const { client, server } = pair;
  const late: Uint8Array[] = [];
  const packet = Buffer.alloc(1_200);
  let sent = 0;
  for (let turn = 0; turn < 60; turn++) {
    for (let i = 0; i < 100; i++) {
      packet.writeUInt32BE(sent);
      if (sendDatagram(server, packet)) sent++;
    }
    server.flush((bytes, offset, length) => late.push(bytes.slice(offset, offset + length)));
  }
  assert.ok(late.length > 0 && sent < 6_000, `${sent} of 6000 were let in, ${late.length} left`);
  assert.ok(sent - late.length <= MAX_QUEUED_DATAGRAMS, `${sent - late.length} wait`);
  for (const bytes of late) client.receive(bytes, 0, bytes.length, SERVER);
  client.processEvents();
  pair.exchange();
  assert.deepEqual(
    pair.clientEvents.datagrams.map((bytes) => bytes.readUInt32BE()),
    Array.from({ length: sent }, (_, i) => i),
  );
});
