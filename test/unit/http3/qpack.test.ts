import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Http3ConnectionError, Http3Error, Http3StreamError } from '../../../data-plane/http3/error-codes.ts';
import { decodeFieldSection } from '../../../data-plane/http3/qpack/decoder.ts';
import { DecoderStreamReader } from '../../../data-plane/http3/qpack/decoder-stream.ts';
import { encodeFieldSection } from '../../../data-plane/http3/qpack/encoder.ts';
import { checkEncoderInstructions } from '../../../data-plane/http3/qpack/encoder-stream.ts';
import { huffmanLength, readHuffman, writeHuffman } from '../../../data-plane/http3/qpack/huffman.ts';
import { STATIC_TABLE } from '../../../data-plane/http3/qpack/static-table.ts';
import { pushPrefixedInteger, readPrefixedInteger } from '../../../data-plane/http3/qpack/string-coding.ts';

const LIMIT = 16_384;
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');
const latin1 = fc.uint8Array({ maxLength: 60 }).map((data) => Buffer.from(data).toString('latin1'));

function huffman(text: string): Uint8Array {
  const target = new Uint8Array(huffmanLength(text));
  assert.equal(writeHuffman(target, 0, text), target.length);
  return target;
}

suite('Huffman code', () => {
  const vectors: [string, string][] = [
    ['f1e3c2e5f23a6ba0ab90f4ff', 'www.example.com'],
    ['a8eb10649cbf', 'no-cache'],
    ['25a849e95ba97d7f', 'custom-key'],
    ['25a849e95bb8e8b4bf', 'custom-value'],
    ['6402', '302'],
    ['aec3771a4b', 'private'],
    ['d07abe941054d444a8200595040b8166e082a62d1bff', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['9d29ad171863c78f0b97c8e9ae82ae43d3', 'https://www.example.com'],
    ['640eff', '307'],
    [
      '94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
      'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
    ],
  ];
  for (const [coded, text] of vectors) {
    test(`RFC 7541 C.4 and C.6: ${text}`, () => {
      assert.equal(hex(huffman(text)), coded);
      assert.equal(readHuffman(bytes(coded), 0, coded.length / 2), text);
    });
  }

  test('item 37 every string survives, with every byte value', () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
    const coded = huffman(all);
    assert.equal(readHuffman(coded, 0, coded.length), all);
    fc.assert(
      fc.property(latin1, (text) => {
        const data = huffman(text);
        assert.equal(readHuffman(data, 0, data.length), text);
      }),
    );
  });

  test('EOS, 8 bits of padding and padding with a zero are refused', () => {
    assert.equal(readHuffman(bytes('fffffffc'), 0, 4), undefined, 'EOS');
    assert.equal(readHuffman(bytes('f1e3c2e5f23a6ba0ab90f4ffff'), 0, 13), undefined, '8 bits of padding');
    assert.equal(readHuffman(bytes('ff'), 0, 1), undefined, 'padding alone');
    assert.equal(readHuffman(bytes('00'), 0, 1), undefined, 'padding with zeros');
  });
});

suite('static table', () => {
  test('item 37 has the 99 entries of RFC 9204 Appendix A', () => {
    assert.equal(STATIC_TABLE.length, 99);
    assert.equal(Object.keys(STATIC_TABLE).length, 99, 'no holes');
    assert.equal(new Set(STATIC_TABLE.map(String)).size, 99, 'no line twice');
    const samples: [number, string, string][] = [
      [0, ':authority', ''],
      [1, ':path', '/'],
      [15, ':method', 'CONNECT'],
      [23, ':scheme', 'https'],
      [25, ':status', '200'],
      [27, ':status', '404'],
      [63, ':status', '100'],
      [71, ':status', '500'],
      [84, 'authorization', ''],
      [95, 'user-agent', ''],
      [98, 'x-frame-options', 'sameorigin'],
    ];
    for (const [index, name, value] of samples) assert.deepEqual(STATIC_TABLE[index], [name, value]);
  });
});

suite('prefixed integers', () => {
  test('the examples of RFC 7541 C.1', () => {
    const examples: [number, number, string][] = [
      [10, 5, '0a'],
      [1337, 5, '1f9a0a'],
      [42, 8, '2a'],
    ];
    for (const [value, prefix, expected] of examples) {
      const out: number[] = [];
      pushPrefixedInteger(out, 0, prefix, value);
      assert.equal(hex(Uint8Array.from(out)), expected);
      assert.equal(readPrefixedInteger({ bytes: bytes(expected), offset: 0 }, prefix), value);
    }
  });

  test('item 37 every value survives with every prefix', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.integer({ min: 3, max: 8 }), (value, prefix) => {
        const out: number[] = [];
        pushPrefixedInteger(out, 0, prefix, value);
        assert.equal(readPrefixedInteger({ bytes: Uint8Array.from(out), offset: 0 }, prefix), value);
      }),
    );
  });
});

suite('field sections', () => {
  test('RFC 9204 B.1: a literal field line with a static name reference', () => {
    const encoded = bytes('0000 510b 2f69 6e64 6578 2e68 746d 6c');
    assert.deepEqual(decodeFieldSection(encoded, LIMIT), [[':path', '/index.html']]);
  });

  test('item 36 the encoder uses static entries, name references, and literals in Huffman code', () => {
    const encoded = encodeFieldSection([
      [':status', '200'],
      ['user-agent', 'no-cache'],
      ['custom-key', 'custom-value'],
    ]);
    assert.equal(
      hex(encoded),
      `0000 d9 5f50 86a8eb10649cbf 2f01 25a849e95ba97d7f 89 25a849e95bb8e8b4bf`.replaceAll(' ', ''),
    );
  });

  test('secrets are marked never to be indexed', () => {
    assert.equal(encodeFieldSection([['authorization', 'x']])[2]! & 0x20, 0x20);
    assert.equal(encodeFieldSection([[':path', '/?token=x']])[2]! & 0x20, 0x20);
    assert.equal(encodeFieldSection([[':path', '/x']])[2]! & 0x20, 0);
  });

  test('item 37 every list of lines survives, and no prefix of it does more than a typed error or a shorter list', () => {
    const line = fc.tuple(fc.constantFrom(':path', 'authorization', 'x-own', 'cookie', 'a'), latin1);
    fc.assert(
      fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
        const encoded = encodeFieldSection(lines);
        assert.deepEqual(decodeFieldSection(encoded, LIMIT), lines);
        for (let end = 0; end < encoded.length; end++) assertDecodesOrFailsTyped(encoded.subarray(0, end));
      }),
    );
  });

  test('arbitrary bytes never cause more than a typed error', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), assertDecodesOrFailsTyped), { numRuns: 1000 });
  });

  const malformed: [string, string, typeof Http3ConnectionError | typeof Http3StreamError][] = [
    ['input 19 required insert count 1', '0200 d9', Http3ConnectionError],
    ['input 20 static index 99', '0000 ff24', Http3ConnectionError],
    ['input 20 static name index 99', '0000 5f54 00', Http3ConnectionError],
    ['item 38 dynamic index', '0000 80', Http3ConnectionError],
    ['item 38 dynamic name reference', '0000 40 00', Http3ConnectionError],
    ['item 38 post-base index', '0000 10', Http3ConnectionError],
    ['item 38 post-base name reference', '0000 00 00', Http3ConnectionError],
    ['item 38 negative base', '0080', Http3ConnectionError],
    ['input 21 Huffman EOS', '0000 50 84fffffffc', Http3StreamError],
    ['input 22 8 bits of Huffman padding', '0000 50 82 07ff', Http3StreamError],
    ['input 23 a 70-bit integer', '0000 ff ff ff ff ff ff ff ff ff ff ff 01', Http3StreamError],
    ['input 24 a string longer than its frame', '0000 50 0a 61', Http3StreamError],
    ['7541-5.1 an integer cut off', '0000 ff', Http3StreamError],
    ['9204-4.5.1 no prefix', '', Http3StreamError],
  ];
  for (const [item, input, kind] of malformed) {
    test(`${item} is QPACK_DECOMPRESSION_FAILED of the ${kind === Http3StreamError ? 'stream' : 'connection'}`, () => {
      assert.throws(
        () => decodeFieldSection(bytes(input), LIMIT),
        (error) => error instanceof kind && error.wireCode === 0x200,
      );
    });
  }

  test('a section that decodes to more than the limit is found out before all of it is decoded', () => {
    const manyStatus = new Uint8Array(2 + 1000).fill(0xd9, 2);
    assert.equal(decodeFieldSection(manyStatus, LIMIT), 'too-large');
  });
});

suite('instruction streams', () => {
  test('capacity 0 and stream cancellations are tolerated, in any chunking', () => {
    checkEncoderInstructions(bytes('2020'));
    const reader = new DecoderStreamReader();
    for (const byte of bytes('44 7f80808001 40')) reader.push(Uint8Array.of(byte));
  });

  for (const [item, input] of [
    ['9204-5 capacity 31', '3f00'],
    ['9204-5 capacity 1', '21'],
    ['input 17 insert with name reference', 'c000'],
    ['input 17 insert with literal name', '4161'],
    ['input 17 duplicate', '00'],
  ] as const) {
    test(`${item} is QPACK_ENCODER_STREAM_ERROR`, () => {
      assertConnectionError(() => checkEncoderInstructions(bytes(input)), 0x201);
    });
  }

  for (const [item, input] of [
    ['input 18 insert count increment 0', '00'],
    ['item 39 insert count increment 1', '01'],
    ['item 39 section acknowledgment', '84'],
    ['9204-4.1.1 a cancelled stream id of 70 bits', `7f${'ff'.repeat(10)}`],
  ] as const) {
    test(`${item} is QPACK_DECODER_STREAM_ERROR`, () => {
      assertConnectionError(() => new DecoderStreamReader().push(bytes(input)), 0x202);
    });
  }
});

function assertDecodesOrFailsTyped(encoded: Uint8Array): void {
  try {
    decodeFieldSection(encoded, LIMIT);
  } catch (error) {
    assert.ok(error instanceof Http3Error, String(error));
    assert.equal(error.wireCode, 0x200);
  }
}

function assertConnectionError(run: () => void, wireCode: number): void {
  assert.throws(run, (error) => error instanceof Http3ConnectionError && error.wireCode === wireCode);
}
