import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  decodeSocketAddress,
  InvalidSocketAddressError,
  parseSocketAddress,
} from '../../../data-plane/udp/socket-address.ts';
import { SocketAddressCache } from '../../../data-plane/udp/socket-address-cache.ts';

const port = fc.integer({ min: 0, max: 0xffff });
const anyText = fc.oneof(
  fc.tuple(fc.ipV4(), port).map(([host, p]) => `${host}:${p}`),
  fc.tuple(fc.ipV6(), port).map(([host, p]) => `[${host}]:${p}`),
  fc
    .tuple(fc.ipV6(), fc.integer({ min: 1, max: 0xffffffff }), port)
    .map(([host, scope, p]) => `[${host}%${scope}]:${p}`),
);

/** A kernel's name buffer: what is after the address is left from an earlier one. */
function asWords(bytes: Uint8Array): Int32Array {
  const words = new Int32Array(16).fill(-1);
  new Uint8Array(words.buffer, 32).set(bytes);
  return words;
}

describe('socket addresses', () => {
  it('come back from the kernel form as the text that they were made of', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const address = parseSocketAddress(text);
        assert.deepEqual(decodeSocketAddress(address.bytes, 0), address);
        assert.deepEqual(parseSocketAddress(address.text), address, 'the canonical text says the same');
      }),
    );
  });

  it('have the layout of sockaddr_in and sockaddr_in6', () => {
    assert.equal(
      Buffer.from(parseSocketAddress('192.0.2.1:4433').bytes).toString('hex'),
      '02001151c00002010000000000000000',
    );
    assert.equal(
      Buffer.from(parseSocketAddress('[fe80::1%3]:4433').bytes).toString('hex'),
      '0a00115100000000fe80000000000000000000000000000103000000',
    );
    assert.equal(parseSocketAddress('[2001:DB8:0::1]:1').text, '[2001:db8::1]:1');
  });

  it('are refused with a typed error that repeats the text', () => {
    const bad = [
      '',
      ':1',
      '1.2.3.4',
      '1.2.3.4:',
      '1.2.3.4:65536',
      '1.2.3:1',
      '01.2.3.4:1',
      '::1:1',
      '[1.2.3.4]:1',
      '[::1]',
      '[::1%x]:1',
      '[::1%9999999999]:1',
      'localhost:1',
      '1.2.3.4:1 ',
      '1.2.3.4:-1',
    ];
    for (const text of bad) {
      assert.throws(
        () => parseSocketAddress(text),
        (error: unknown) => error instanceof InvalidSocketAddressError && error.message.includes(`"${text}"`),
        text,
      );
    }
  });

  it('never make anything but a typed error of any text or bytes', () => {
    const typed = (run: () => unknown) => {
      try {
        run();
      } catch (error) {
        assert.ok(error instanceof InvalidSocketAddressError, String(error));
      }
    };
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          anyText.map((t) => t.slice(1)),
        ),
        (text) => typed(() => parseSocketAddress(text)),
      ),
    );
    fc.assert(
      fc.property(fc.constantFrom(2, 10, 7), fc.uint8Array({ maxLength: 32 }), (family, rest) =>
        typed(() => decodeSocketAddress(Uint8Array.of(family, 0, ...rest), 0)),
      ),
    );
    typed(() => decodeSocketAddress(new Uint8Array(0), 0));
  });
});

describe('SocketAddressCache', () => {
  it('gives the peer of the bytes, however many peers push each other out', () => {
    const cache = new SocketAddressCache(8);
    fc.assert(
      fc.property(fc.array(anyText, { minLength: 1, maxLength: 60 }), (texts) => {
        for (const text of [...texts, ...texts]) {
          const wanted = parseSocketAddress(text);
          assert.deepEqual(cache.fromWords(asWords(wanted.bytes), 8), wanted);
          assert.deepEqual(cache.fromText(text), wanted);
        }
      }),
    );
  });

  it('gives the same object for a peer that was seen before', () => {
    const cache = new SocketAddressCache();
    for (const text of ['192.0.2.1:4433', '[2001:db8::1]:4433', '[fe80::1%3]:1']) {
      const words = asWords(parseSocketAddress(text).bytes);
      assert.equal(cache.fromWords(words, 8), cache.fromWords(words, 8));
      assert.equal(cache.fromText(text), cache.fromText(text));
    }
  });

  it('tells peers apart that differ in one part only', () => {
    const cache = new SocketAddressCache();
    const texts = [
      '192.0.2.1:1',
      '192.0.2.1:2',
      '192.0.2.2:1',
      '[::1]:1',
      '[::1%1]:1',
      '[::1%2]:1',
      '[::]:1',
      '0.0.0.0:1',
    ];
    const peers = texts.map((text) => cache.fromWords(asWords(parseSocketAddress(text).bytes), 8).text);
    assert.deepEqual(peers, texts);
  });
});
