import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { suite, type TestContext, test } from 'node:test';
import { resolveHostname } from '../../data-plane/resolve-hostname.ts';
import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';

const TYPES: Readonly<Record<number, 4 | 6>> = { 1: 4, 28: 6 };
const HEADER_BYTES = 12;
const NAME_ERROR = 3;

/** A DNS server (RFC 1035 4.1) that knows the addresses of every name, and what it was asked for; undefined: the name is not there. */
async function dnsServer(t: TestContext, addresses: readonly string[] | undefined): Promise<string> {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.on('message', (query, peer) => {
    let end = HEADER_BYTES;
    while (query[end] !== 0) end += query[end]! + 1;
    const type = query.readUInt16BE(end + 1);
    const question = query.subarray(HEADER_BYTES, end + 5);
    const answers = (addresses ?? [])
      .map((text) => parseAddress(text))
      .filter(({ family }) => family === TYPES[type])
      .map((address) => {
        const bytes = addressToBytes(address);
        return Buffer.from([0xc0, HEADER_BYTES, 0, type, 0, 1, 0, 0, 0, 60, 0, bytes.length, ...bytes]);
      });
    const head = Buffer.from(query.subarray(0, HEADER_BYTES));
    head.set([0x81, 0x80 | (addresses === undefined ? NAME_ERROR : 0), 0, 1, 0, answers.length, 0, 0, 0, 0], 2);
    socket.send(Buffer.concat([head, question, ...answers]), peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return `127.0.0.1:${socket.address().port}`;
}

suite('item 12 resolving a target', () => {
  test('addresses of both families, or of the one that there is', async (t) => {
    for (const addresses of [['192.0.2.1', '192.0.2.2', '2001:db8::1'], ['192.0.2.1'], ['2001:db8::1']]) {
      assert.deepEqual(await resolveHostname('files.example', [await dnsServer(t, addresses)]), addresses);
    }
  });

  test('a name that is not there, or has no addresses, is an error that says so', async (t) => {
    for (const [addresses, why] of [
      [undefined, /ENOTFOUND/],
      [[], /ENODATA/],
    ] as const) {
      const failed = resolveHostname('files.example', [await dnsServer(t, addresses)]);
      await assert.rejects(failed, { code: 'HOSTNAME_UNRESOLVED', message: why });
    }
  });

  test('a server that does not answer is given up', async (t) => {
    const silent = createSocket('udp4');
    t.after(() => silent.close());
    await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
    const failed = resolveHostname('files.example', [`127.0.0.1:${silent.address().port}`]);
    await assert.rejects(failed, { code: 'HOSTNAME_UNRESOLVED', message: /ETIMEOUT/ });
  });

  test('more addresses than a tunnel needs are left out', async (t) => {
    const many = Array.from({ length: 25 }, (_, i) => `192.0.2.${i}`);
    const many6 = Array.from({ length: 12 }, (_, i) => `2001:db8::${i + 1}`);
    assert.equal((await resolveHostname('files.example', [await dnsServer(t, [...many, ...many6])])).length, 32);
  });
});
