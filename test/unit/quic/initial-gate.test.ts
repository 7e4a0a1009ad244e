import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, suite, test } from 'node:test';
import { createConnectionIds, initialToken, readConnectionIds } from '../../../data-plane/quic/packet-header.ts';
import { QuicEndpoint } from '../../../data-plane/quic/quic-endpoint.ts';
import { checkRetryToken, mintRetryToken, RETRY_TOKEN_LIFETIME_SECONDS } from '../../../data-plane/quic/retry-token.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';
import { craftInitial } from './craft-initial.ts';
import { QuicNetwork, RETRY_KEY } from './quic-network.ts';

const CLIENT = '198.51.100.7:1';
const STRANGER = '203.0.113.9:999';
/** Of the core's Retry packets: what is neither token nor id. */
const INTEGRITY_TAG_BYTES = 16;
const RETRY = 0xf0;
const TOKEN_TAG_BYTES = 32;

let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
});

const ping = Buffer.of(0x01);
const initial = (token?: Uint8Array) => craftInitial(ping, randomBytes(20), randomBytes(20), 0, token);

/** The token that a client's packet carries. */
function tokenOf(packet: Buffer): Buffer {
  const ids = createConnectionIds();
  if (readConnectionIds(packet, 0, packet.length, 20, ids) !== 'long') return Buffer.alloc(0);
  const range = initialToken(packet, 0, packet.length, ids);
  return packet.subarray(range?.offset, (range?.offset ?? 0) + (range?.length ?? 0));
}

/** The token of a Retry packet. */
function retryTokenOf(packet: Buffer): Buffer {
  const ids = createConnectionIds();
  assert.equal(readConnectionIds(packet, 0, packet.length, 20, ids), 'long');
  return packet.subarray(ids.sourceOffset + ids.sourceLength, packet.length - INTEGRITY_TAG_BYTES);
}

suite('RFC 9000 8.1.2: clients show their address while many handshakes are in flight', () => {
  test('in quiet times there is no Retry, and a token from elsewhere is nobody’s business', () => {
    const network = new QuicNetwork(pem);
    network.connect(CLIENT);
    assert.deepEqual(network.clients.get(CLIENT)?.received, ['up']);
    network.receive(initial(randomBytes(80)), STRANGER);
    const { retriesSent, handshakes, connections } = network.server.state();
    assert.deepEqual([retriesSent, handshakes, connections], [0, 1, 2]);
  });

  test('with as many in flight as there may be, a client gets in by one Retry, and others keep their connections', () => {
    const network = new QuicNetwork(pem, { retryFrom: 1 });
    network.connect(CLIENT);
    network.receive(initial(), STRANGER);
    assert.equal(network.server.state().handshakes, 1);
    const retries: number[] = [];
    network.onSent = (packet) => {
      if ((packet[0]! & RETRY) === RETRY) retries.push(packet.length);
    };
    const late = '[2001:db8::7]:4';
    network.connect(late);
    assert.deepEqual(network.clients.get(late)?.received, ['up']);
    assert.equal(retries.length, 1);
    for (const peer of [CLIENT, late]) {
      network.say(peer, 'hello');
      network.answer(peer, 'welcome');
      assert.ok(network.log.includes(`${peer} says hello`), network.log.join('\n'));
      assert.deepEqual(network.clients.get(peer)?.received, ['up', 'welcome']);
    }
  });

  test('thousands of first packets from nowhere keep nothing of them, and no new client out', () => {
    const network = new QuicNetwork(pem, { maxConnections: 20, connectionsPerCell: 10, retryFrom: 5 });
    for (let i = 0; i < 2_000; i++) network.receive(initial(), `203.0.113.${i % 250}:${1_024 + i}`);
    const { handshakes, retriesSent, connectionsRefused } = network.server.state();
    assert.deepEqual([handshakes, retriesSent, connectionsRefused], [5, 1_995, 0]);
    network.connect(CLIENT);
    assert.deepEqual(network.clients.get(CLIENT)?.received, ['up']);
  });

  test('a token is good for the address it was made for alone, and not for long', () => {
    const network = new QuicNetwork(pem, { retryFrom: 0 });
    const stolen: Buffer[] = [];
    network.onClientSent = (packet) => {
      if (tokenOf(packet).length === 0) return true;
      stolen.push(packet);
      return false;
    };
    network.connect(CLIENT);
    network.onClientSent = () => true;
    const packet = stolen[0] ?? assert.fail('the client came back with no token');
    for (const thief of [STRANGER, '198.51.100.7:2', '[2001:db8::7]:1']) network.receive(packet, thief);
    assert.deepEqual(network.server.state().tokensRefused, { expired: 0, another_address: 3 });
    assert.equal(network.server.state().connections, 0);
    const old = Date.now() - (RETRY_TOKEN_LIFETIME_SECONDS + 2) * 1_000;
    network.receive(initial(mintRetryToken(RETRY_KEY, STRANGER, randomBytes(8), old)), STRANGER);
    assert.deepEqual(network.server.state().tokensRefused, { expired: 1, another_address: 3 });
    network.receive(packet, CLIENT);
    assert.equal(network.server.state().connections, 1);
  });

  test('a client whose token is refused hears so at once, by a packet that is smaller than its own', async () => {
    const network = new QuicNetwork(pem, { retryFrom: 0 });
    const withToken: Buffer[] = [];
    const answers: Buffer[] = [];
    network.onClientSent = (packet) => {
      if (tokenOf(packet).length === 0) return true;
      withToken.push(packet);
      return false;
    };
    network.connect(CLIENT);
    network.onSent = (packet) => answers.push(packet);
    // As by a NAT that gave it another address meanwhile.
    network.receive(withToken[0] ?? assert.fail('the client came back with no token'), STRANGER);
    assert.equal(answers.length, 1);
    const close = answers[0] ?? Buffer.alloc(0);
    assert.ok(close.length < 100, `${close.length} bytes`);
    const { endpoint, received } = network.clients.get(CLIENT) ?? assert.fail();
    endpoint.receive(close, 0, close.length, '198.51.100.2:4433');
    const ended = () => {
      if (endpoint.timeoutMs() === 0) endpoint.onTimeout();
      network.exchange();
      return received.length > 0;
    };
    await waitFor(ended, { timeoutMs: 5_000, what: 'the end of the client' });
    assert.deepEqual(received, ['closed 0xb']);
  });

  test('our tokens are what the core makes of the same', () => {
    for (const peer of [CLIENT, '[2001:db8::7]:4433']) {
      const events = { onConnection() {}, onHandshakeComplete() {}, onStreamData() {}, onStreamReset() {} };
      const server = { role: 'server', cert: pem.cert, key: pem.key, localAddress: '[::]:4433' } as const;
      const core = new QuicEndpoint(
        { ...server, maxConnections: 1, retryKey: RETRY_KEY },
        { ...events, onDatagram() {}, onClosed() {} },
        () => {},
      );
      const originalId = randomBytes(9);
      const packet = craftInitial(ping, originalId, randomBytes(20));
      core.receive(packet, 0, packet.length, peer);
      let token = Buffer.alloc(0);
      core.flush((bytes, offset, length) => {
        token = Buffer.from(retryTokenOf(Buffer.from(bytes.subarray(offset, offset + length))));
      });
      const madeMs = Number(token.readBigUInt64BE(TOKEN_TAG_BYTES + (peer.startsWith('[') ? 19 : 7))) * 1_000;
      assert.ok(Math.abs(madeMs - Date.now()) < 10_000, `${madeMs}`);
      assert.deepEqual(mintRetryToken(RETRY_KEY, peer, originalId, madeMs), token);
      assert.equal(checkRetryToken(RETRY_KEY, token, peer, Date.now()), 'valid');
    }
  });

  test('a token that was changed, cut or made with another key is unknown', () => {
    const token = mintRetryToken(RETRY_KEY, CLIENT, randomBytes(20), Date.now());
    assert.equal(checkRetryToken(RETRY_KEY, token, CLIENT, Date.now()), 'valid');
    assert.equal(checkRetryToken(randomBytes(32), token, CLIENT, Date.now()), 'unknown');
    for (let at = 0; at < token.length; at++) {
      assert.equal(checkRetryToken(RETRY_KEY, token.subarray(0, at), CLIENT, Date.now()), 'unknown');
      const changed = Buffer.from(token);
      changed[at]! ^= 1;
      assert.equal(checkRetryToken(RETRY_KEY, changed, CLIENT, Date.now()), 'unknown');
    }
  });
});

suite('what a stranger gets for its packets', () => {
  /** Bytes that come back for one datagram from nobody. */
  function answers(network: QuicNetwork, packet: Uint8Array): Buffer[] {
    const sent: Buffer[] = [];
    network.onSent = (bytes) => sent.push(bytes);
    network.receive(packet, STRANGER);
    return sent;
  }

  test('RFC 9000 6, 17.2.1: a packet of an unknown version is answered with ours and one of no meaning', () => {
    const network = new QuicNetwork(pem);
    for (const idBytes of [0, 8, 20, 255]) {
      const [destination, source] = [randomBytes(idBytes), randomBytes(Math.min(idBytes, 200))];
      const ids = [destination, source].map((id) => Buffer.concat([Buffer.of(id.length), id]));
      const packet = Buffer.concat([Buffer.of(0xc3, 0x1a, 0x2a, 0x3a, 0x4a), ...ids, Buffer.alloc(1200)]);
      const [answer, ...more] = answers(network, packet);
      if (answer === undefined) assert.fail('no answer');
      assert.equal(more.length, 0);
      assert.ok(answer[0]! >= 0x80);
      const expected = Buffer.concat([Buffer.alloc(4), ids[1]!, ids[0]!, Buffer.of(0, 0, 0, 1)]);
      assert.deepEqual(answer.subarray(1, 1 + expected.length), expected);
      assert.match(answer.subarray(1 + expected.length).toString('hex'), /^(?:[0-9a-f]a){4}$/);
    }
    assert.equal(network.server.state().versionsNegotiated, 4);
    assert.equal(network.server.state().connections, 0);
  });

  test('RFC 9000 6.1, 14.1: short datagrams, Version Negotiation and Retry packets get no answer and begin nothing', () => {
    const network = new QuicNetwork(pem, { retryFrom: 0 });
    const ids = Buffer.concat([Buffer.of(8), randomBytes(8), Buffer.of(8), randomBytes(8)]);
    const long = (first: number, version: number, bytes: number) => {
      const head = Buffer.alloc(5);
      head[0] = first;
      head.writeUInt32BE(version, 1);
      return Buffer.concat([head, ids, Buffer.alloc(bytes - head.length - ids.length)]);
    };
    for (const packet of [
      long(0xc0, 0x1a2a3a4a, 1199),
      long(0xc0, 0, 1300),
      long(0xf0, 1, 1300),
      long(0xe0, 1, 1300),
      long(0xd0, 1, 1300),
      initial().subarray(0, 1199),
      craftInitial(ping, randomBytes(7), randomBytes(20)),
    ]) {
      assert.deepEqual(answers(network, packet), []);
    }
    assert.equal(network.server.state().connections, 0);
  });

  test('RFC 9000 8.1: at most three times as much as came from it, also when nothing more comes', async () => {
    // A chain that would fill ten datagrams.
    const network = new QuicNetwork({ ...pem, cert: [pem.cert, ...Array(16).fill(pem.ca)].join('\n') });
    let [came, sent] = [0, 0];
    let silent = false;
    network.onClientSent = (packet) => {
      if (!silent) came += packet.length;
      return !silent;
    };
    network.onSent = (packet) => {
      silent = true;
      sent += packet.length;
    };
    network.connect(CLIENT);
    const first = network.server.timeoutMs(network.nowMs);
    const repeated = () => {
      network.server.onTimeout(Number.POSITIVE_INFINITY);
      network.exchange();
      return network.server.timeoutMs(network.nowMs) > 1.5 * first;
    };
    await waitFor(repeated, { timeoutMs: 10_000, what: 'the server to have tried again' });
    assert.ok(sent > 2 * came && sent <= 3 * came, `${sent} bytes for ${came}`);
    // A Retry is the smaller the better, too.
    const quiet = new QuicNetwork(pem, { retryFrom: 0 });
    assert.ok(answers(quiet, initial()).reduce((sum, { length }) => sum + length, 0) < 200);
  });
});
