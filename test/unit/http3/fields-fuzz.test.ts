import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  checkTrailers,
  contentLength,
  parseRequestFields,
  parseResponseFields,
  requestLines,
  responseLines,
} from '../../../data-plane/http3/field-section.ts';
import { decodeFieldSection } from '../../../data-plane/http3/qpack/decoder.ts';
import { DecoderStreamReader } from '../../../data-plane/http3/qpack/decoder-stream.ts';
import { encodeFieldSection } from '../../../data-plane/http3/qpack/encoder.ts';
import { checkEncoderInstructions } from '../../../data-plane/http3/qpack/encoder-stream.ts';
import { fieldSectionSize } from '../../../data-plane/http3/qpack/field-line.ts';
import { huffmanLength, readHuffman, writeHuffman } from '../../../data-plane/http3/qpack/huffman.ts';
import {
  pushPrefixedInteger,
  pushPrefixedString,
  readPrefixedInteger,
  readPrefixedString,
} from '../../../data-plane/http3/qpack/string-coding.ts';
import { cuts, fuzz, hostile, inPieces, outcomeOf, surroundings, viewWithin, within } from '../../support/fuzz.ts';
import { anyLines, latin1 } from './any-lines.ts';

const LIMIT = 16_384;

suite('QPACK', () => {
  test('a field section is read within its end and its limit, and what was read survives once more', () => {
    fuzz(
      hostile(anyLines.map(encodeFieldSection)),
      surroundings,
      fc.constantFrom(64, 200, LIMIT),
      (bytes, around, limit) => {
        const outcome = outcomeOf(() => decodeFieldSection(bytes, limit));
        assert.deepEqual(
          outcomeOf(() => decodeFieldSection(viewWithin(around, bytes), limit)),
          outcome,
        );
        if ('code' in outcome) {
          assert.equal(outcome.code, 'QPACK_DECOMPRESSION_FAILED');
        } else if (outcome.value !== 'too-large') {
          assert.ok(fieldSectionSize(outcome.value) <= limit);
          assert.deepEqual(decodeFieldSection(encodeFieldSection(outcome.value), limit), outcome.value);
        }
      },
    );
  });

  test('integers: exact, or a typed error, and never beyond the end', () => {
    const prefix = fc.integer({ min: 3, max: 8 });
    const encoded = fc.tuple(fc.maxSafeNat(), prefix).map(([value, bits]) => {
      const out: number[] = [];
      pushPrefixedInteger(out, 0, bits, value);
      return Uint8Array.from(out);
    });
    fuzz(hostile(encoded, 14), prefix, surroundings, (bytes, bits, around) => {
      const read = (from: Uint8Array) => {
        const cursor = { bytes: from, offset: 0 };
        return outcomeOf(() => [readPrefixedInteger(cursor, bits), cursor.offset]);
      };
      const outcome = read(bytes);
      assert.deepEqual(read(viewWithin(around, bytes)), outcome);
      if ('code' in outcome) return;
      const [value = -1, end = 0] = outcome.value;
      assert.ok(value >= 0 && value < 2 ** 63 && end <= bytes.length && end <= 10);
    });
  });

  test('strings: as written, or a typed error', () => {
    fuzz(latin1, fc.constantFrom(3, 7), (text, bits) => {
      const out: number[] = [];
      pushPrefixedString(out, 0, bits, text);
      assert.equal(readPrefixedString({ bytes: Uint8Array.from(out), offset: 0 }, bits), text);
    });
    const encoded = latin1.map((text) => {
      const out: number[] = [];
      pushPrefixedString(out, 0, 7, text);
      return Uint8Array.from(out);
    });
    fuzz(hostile(encoded), fc.constantFrom(3, 7), surroundings, (bytes, bits, around) => {
      const read = (from: Uint8Array) => outcomeOf(() => readPrefixedString({ bytes: from, offset: 0 }, bits));
      assert.deepEqual(read(viewWithin(around, bytes)), read(bytes));
    });
  });

  test('a Huffman text has one code: what can be read is written as the same bytes', () => {
    const coded = latin1.map((text) => {
      const out = new Uint8Array(huffmanLength(text));
      writeHuffman(out, 0, text);
      return out;
    });
    fuzz(hostile(coded, 40), surroundings, (bytes, around) => {
      const { buffer, offset } = within(around, bytes);
      const text = readHuffman(buffer, offset, offset + bytes.length);
      if (text === undefined) return;
      const again = new Uint8Array(huffmanLength(text));
      writeHuffman(again, 0, text);
      assert.deepEqual(again, bytes);
    });
  });

  test('instructions: no cut changes what is made of them', () => {
    const valid = fc.array(fc.constantFrom(0x20, 0x44, 0x7f, 0x80, 0x01), { maxLength: 12 });
    fuzz(
      hostile(
        valid.map((bytes) => Uint8Array.from(bytes)),
        20,
      ),
      cuts,
      (bytes, lengths) => {
        for (const start of [
          () => {
            const reader = new DecoderStreamReader();
            return (piece: Uint8Array) => reader.push(piece);
          },
          () => checkEncoderInstructions,
        ]) {
          const [whole, cut] = [start(), start()];
          const outcome = outcomeOf(() => whole(bytes));
          assert.deepEqual(
            outcomeOf(() => inPieces(bytes, lengths, cut)),
            outcome,
          );
        }
      },
    );
  });
});

suite('fields of messages', () => {
  test('any lines are a message or H3_MESSAGE_ERROR; what is one can be sent and is the same', () => {
    fuzz(anyLines, (lines) => {
      const request = outcomeOf(() => parseRequestFields(lines));
      if ('value' in request) assert.deepEqual(parseRequestFields(requestLines(request.value)), request.value);
      else assert.equal(request.code, 'H3_MESSAGE_ERROR');
      const response = outcomeOf(() => parseResponseFields(lines));
      if ('value' in response) {
        const { status, fields } = response.value;
        assert.deepEqual(parseResponseFields(responseLines(status, fields)), response.value);
      } else assert.equal(response.code, 'H3_MESSAGE_ERROR');
      outcomeOf(() => checkTrailers(lines));
      const length = outcomeOf(() => contentLength(lines));
      if ('value' in length) assert.ok(length.value === undefined || Number.isSafeInteger(length.value));
    });
  });
});
