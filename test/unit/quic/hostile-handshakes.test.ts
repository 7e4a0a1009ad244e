import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import fc from 'fast-check';
import { generate } from 'selfsigned';
import { keepsMorePaths, loadQuicCore, survivesTlsErrors } from '../../../data-plane/quic/core-module.ts';
import { QuicEndpoint } from '../../../data-plane/quic/quic-endpoint.ts';
import { type CertificateAuthority, createAuthority } from '../../../deploy/local/certificate.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';
import { craftInitial, cryptoFrame } from './craft-initial.ts';

const SERVER = '198.51.100.2:4433';
const NAME = 'node-a.test';
const HOUR_MS = 3_600_000;
const TIMEOUT_MS = 10_000;

let pem: TestCertificate;
let stranger: CertificateAuthority;
before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-stranger-'));
  stranger = await createAuthority(directory, 'stranger');
  rmSync(directory, { recursive: true });
});

/** A node's endpoint with one well-behaved client on it. */
class Node {
  readonly seen: string[] = [];
  readonly endpoint: QuicEndpoint;
  readonly #clients = new Map<string, QuicEndpoint>();

  constructor(clientCa?: string) {
    const { cert, key } = pem;
    const security = { cert, key, ...(clientCa === undefined ? {} : { clientCa }) };
    this.endpoint = new QuicEndpoint(
      { role: 'server', ...security, localAddress: SERVER, maxConnections: 1_000 },
      {
        onConnection: (id) => this.seen.push(`connection ${id}`),
        onHandshakeComplete: (id) => this.seen.push(`handshake ${id}`),
        onStreamData: (id, streamId, bytes) => this.seen.push(`stream ${id} ${streamId} ${Buffer.from(bytes)}`),
        onStreamReset: () => {},
        onDatagram: () => {},
        onClosed: (id, code) => this.seen.push(`closed ${id} 0x${code.toString(16)}`),
      },
      () => {},
    );
  }

  /** Connects a client; what it is told is in the list that comes back. */
  connect(peer: string, more: { serverName?: string; ca?: string; cert?: string; key?: string } = {}) {
    const told: string[] = [];
    const client = new QuicEndpoint(
      { role: 'client', localAddress: peer, serverAddress: SERVER, serverName: NAME, ca: pem.ca, ...more },
      {
        onConnection: () => {},
        onHandshakeComplete: () => told.push('handshake'),
        onStreamData: () => {},
        onStreamReset: () => {},
        onDatagram: () => {},
        onClosed: (_id, code) => told.push(`closed 0x${code.toString(16)}`),
      },
      () => {},
    );
    this.#clients.set(peer, client);
    this.exchange();
    return { client, told };
  }

  receive(bytes: Uint8Array): void {
    this.endpoint.receive(bytes, 0, bytes.length, '203.0.113.9:999');
    this.exchange();
  }

  exchange(): void {
    for (let moved = true; moved; ) {
      moved = false;
      for (const [peer, client] of this.#clients) {
        client.flush((bytes, offset, length) => {
          this.endpoint.receive(bytes.slice(offset, offset + length), 0, length, peer);
          moved = true;
        });
      }
      this.endpoint.processEvents();
      this.endpoint.flush((bytes, offset, length, peer) => {
        this.#clients.get(peer)?.receive(bytes.slice(offset, offset + length), 0, length, SERVER);
        moved = true;
      });
      for (const client of this.#clients.values()) client.processEvents();
    }
  }

  /** That the client whose connection is `id` still has it. */
  assertServes(client: QuicEndpoint, id: number): void {
    this.seen.length = 0;
    client.sendStream(0, 0, Buffer.from('still here'), false);
    this.exchange();
    assert.deepEqual(this.seen, [`stream ${id} 0 still here`]);
  }
}

const initial = (frames: Uint8Array) => craftInitial(frames, randomBytes(20), randomBytes(20));
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

suite('a first packet that is no handshake costs the others nothing', () => {
  const frames: Readonly<Record<string, Buffer>> = {
    'a ClientHello of noise': cryptoFrame(Buffer.concat([hex('01 000060'), Buffer.alloc(0x60, 0xaa)])),
    'a ClientHello of version TLS 1.2': cryptoFrame(
      Buffer.concat([hex('01 00002b 0303'), Buffer.alloc(33), hex('0002 1301 01 00 0000')]),
    ),
    'a ServerHello': cryptoFrame(Buffer.concat([hex('02 000020'), Buffer.alloc(0x20)])),
    'a Finished': cryptoFrame(Buffer.concat([hex('14 000020'), Buffer.alloc(0x20)])),
    'a handshake message of 16 MiB': cryptoFrame(hex('01 ffffff 0303')),
    'no TLS at all': cryptoFrame(Buffer.alloc(100, 0xff)),
    'CRYPTO at the end of all offsets': hex('06 ffffffffffffffff 01 00'),
    'CRYPTO that is cut': hex('06 00 7fff'),
    'a STREAM frame': hex('08 00 41'),
    'an unknown frame': hex('3f'),
    'an ACK of nothing': hex('02 40ff 00 00 00'),
    'a CONNECTION_CLOSE': hex('1c 00 00 00'),
  };

  test('each of them, one after the other', () => {
    const node = new Node();
    const { client } = node.connect('198.51.100.7:1');
    for (const [what, bytes] of Object.entries(frames)) {
      assert.doesNotThrow(() => node.receive(initial(bytes)), what);
      node.assertServes(client, 0);
    }
  });

  test('any bytes as handshake messages, whole or changed', () => {
    const node = new Node();
    const { client } = node.connect('198.51.100.7:1');
    const message = fc
      .tuple(fc.constantFrom(1, 2, 4, 8, 11, 15, 20, 24), fc.uint8Array({ maxLength: 200 }))
      .map(([type, body]) => Buffer.concat([Buffer.of(type, 0, 0, body.length), body]));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), message.map(cryptoFrame)), (bytes) => {
        node.receive(initial(bytes));
      }),
      { numRuns: 300 },
    );
    node.assertServes(client, 0);
  });

  test('item 1 another ALPN is answered with the alert no_application_protocol', async () => {
    const node = new Node();
    const { client } = node.connect('198.51.100.7:1');
    const hello = clientHelloWithAlpn('hq-29');
    const { told, flush } = hello;
    flush((bytes) => node.endpoint.receive(bytes, 0, bytes.length, '203.0.113.9:1'));
    node.endpoint.processEvents();
    node.endpoint.flush((bytes, offset, length, peer) => {
      if (peer === '203.0.113.9:1') hello.receive(bytes.slice(offset, offset + length));
    });
    assert.match(await told(), /"errorCode":376/);
    node.assertServes(client, 0);
  });
});

suite('certificates that are refused', () => {
  test('by a client: it says why', async () => {
    const node = new Node();
    const { client } = node.connect('198.51.100.7:1');
    for (const [peer, more, end] of [
      ['198.51.100.7:2', { serverName: 'node-b.test' }, 'closed 0x12a'],
      ['198.51.100.7:3', { ca: stranger.certificate }, 'closed 0x130'],
    ] as const) {
      const refusing = node.connect(peer, more);
      const probe = () => {
        refusing.client.onTimeout();
        refusing.client.processEvents();
        return refusing.told.length > 0;
      };
      await waitFor(probe, { timeoutMs: TIMEOUT_MS, what: 'the end of the connection' });
      assert.deepEqual(refusing.told, [end]);
    }
    node.assertServes(client, 0);
  });

  test('by a node: a stranger with a certificate of another authority, or none, disturbs nobody', async () => {
    const friends = await createAuthority(mkdtempSync(join(tmpdir(), 'mvpn-friends-')), 'friends');
    const node = new Node(friends.certificate);
    const friend = node.connect('198.51.100.7:1', await clientCertificate(friends));
    assert.deepEqual(friend.told, ['handshake']);
    assert.deepEqual(node.seen, ['connection 0', 'handshake 0']);
    node.connect('198.51.100.7:2', await clientCertificate(stranger));
    node.connect('198.51.100.7:3');
    node.assertServes(friend.client, 0);
    node.seen.length = 0;
    node.connect('198.51.100.7:4', await clientCertificate(friends));
    assert.equal(node.seen.filter((line) => line.startsWith('handshake')).length, 1);
  });
});

test('a core of another build is refused at the start, not at the first bad packet', () => {
  for (const mend of [survivesTlsErrors, keepsMorePaths])
    assert.throws(() => mend(new Uint8Array(100)), { code: 'QUIC_CORE_UNKNOWN' });
});

async function clientCertificate(authority: CertificateAuthority): Promise<{ cert: string; key: string }> {
  const made = await generate([{ name: 'commonName', value: 'client' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notBeforeDate: new Date(Date.now() - HOUR_MS),
    notAfterDate: new Date(Date.now() + HOUR_MS),
    ca: { key: authority.key, cert: authority.certificate },
    extensions: [
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', clientAuth: true },
    ],
  });
  return { cert: made.cert, key: made.private };
}

/** A client of the core with an ALPN that QuicEndpoint does not offer. */
function clientHelloWithAlpn(alpn: string) {
  const core = loadQuicCore(() => {});
  const x = core.exports;
  const options = {
    alpn: [alpn],
    ca: pem.ca,
    rejectUnauthorized: true,
    serverAddr: SERVER,
    serverName: NAME,
    localAddr: '203.0.113.9:1',
    scidHex: randomBytes(20).toString('hex'),
  };
  const { ptr, len } = core.writeUtf8(JSON.stringify(options));
  const handle = x.qc_new(ptr, len);
  assert.notEqual(handle, 0, core.readLastError(x.qc_last_error, 0));
  const out = core.allocOutPtrCell();
  return {
    flush(send: (bytes: Uint8Array) => void) {
      for (let n = Number(x.qc_next_send(handle)); n > 0; n = Number(x.qc_next_send(handle))) {
        send(new Uint8Array(x.memory.buffer, x.qc_tx_buffer(handle), n).slice());
      }
    },
    receive(bytes: Uint8Array) {
      new Uint8Array(x.memory.buffer).set(bytes, x.qc_rx_buffer(handle));
      x.qc_recv(handle, bytes.length);
    },
    /** The events as JSON, once the end is among them: late packets get their time first (RFC 9000 10.2). */
    told(): Promise<string> {
      const probe = () => {
        x.qc_on_timeout(handle);
        const length = Number(x.qc_drain_events(handle, out));
        const pointer = new DataView(x.memory.buffer).getUint32(out, true);
        const json = Buffer.from(x.memory.buffer, pointer, length).toString();
        return json.includes('errorCode') && json;
      };
      return waitFor(probe, { timeoutMs: TIMEOUT_MS, what: 'the end of the connection' });
    },
  };
}
