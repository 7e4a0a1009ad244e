import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { decodeEvents, encodeEvents, validateEvent } from '../../../shared/events/envelope.ts';
import { ADDRESS_BITS, formatAddress, parseAddress } from '../../../shared/ip/address.ts';
import { formatPrefix, lastAddress, parsePrefix } from '../../../shared/ip/prefix.ts';
import { rangeToPrefixes } from '../../../shared/ip/range.ts';
import { fuzz, hostile, outcomeOf, surroundings, viewWithin } from '../../support/fuzz.ts';
import { anyAddress, anyPrefix, near } from './sample-addresses.ts';
import { envelope, samples as eventSamples } from './sample-events.ts';
import { samples as messageSamples } from './sample-messages.ts';

suite('addresses', () => {
  for (const [what, texts, parse, format, code] of [
    ['an address', anyAddress.map(formatAddress), parseAddress, formatAddress, 'INVALID_ADDRESS'],
    ['a prefix', anyPrefix.map(formatPrefix), parsePrefix, formatPrefix, 'INVALID_PREFIX'],
  ] as const) {
    const formatAny = format as (value: unknown) => string;
    test(`any text is ${what} in one canonical form, or ${code}`, () => {
      fuzz(texts, (text) => assert.equal(formatAny(parse(text)), text));
      fuzz(near(texts), (text) => {
        const outcome = outcomeOf<unknown>(() => parse(text));
        if ('code' in outcome) assert.equal(outcome.code, code);
        else assert.deepEqual(parse(formatAny(outcome.value)), outcome.value);
      });
    });
  }

  test('a range becomes no more prefixes than its addresses have bits, twice', () => {
    fuzz(anyAddress, anyAddress, (a, b) => {
      const family = a.family;
      const width = ADDRESS_BITS[family];
      const [low = 0n, high = 0n] = [a.value, BigInt.asUintN(width, b.value)].sort((x, y) => (x < y ? -1 : 1));
      const prefixes = rangeToPrefixes({ family, value: low }, { family, value: high });
      assert.ok(prefixes.length <= 2 * width);
      let next = low;
      for (const prefix of prefixes) {
        assert.equal(prefix.address.value, next);
        next = lastAddress(prefix).value + 1n;
      }
      assert.equal(next, high + 1n);
    });
  });
});

suite('messages', () => {
  const oddities = fc.oneof(
    fc.constantFrom(null, -1, 1.5, 1e300, '', '\0', '\ud800', [], {}, true),
    fc.string(),
    fc.double(),
  );
  /** JSON of one value with one of its leaves, or a part of it, replaced. */
  const changedIn = (value: object): fc.Arbitrary<Uint8Array> =>
    fc.tuple(fc.nat(), oddities).map(([pick, odd]) => {
      const copy = structuredClone(value);
      const places: (readonly [holder: Record<string, unknown>, key: string])[] = [];
      const visit = (holder: Record<string, unknown>): void => {
        for (const key of Object.keys(holder)) {
          places.push([holder, key]);
          const inner = holder[key];
          if (typeof inner === 'object' && inner !== null) visit(inner as Record<string, unknown>);
        }
      };
      visit(copy as Record<string, unknown>);
      const [holder, key] = places[pick % places.length]!;
      holder[key] = odd;
      return Buffer.from(JSON.stringify(copy));
    });

  test('events: INVALID_EVENT, or events that come back as they were, wherever the message lies', () => {
    const valid = fc
      .array(fc.constantFrom(...Object.entries(eventSamples)), { minLength: 1, maxLength: 3 })
      .map((some) => some.map(([type, data], i) => envelope(type, data, i + 1)));
    const bytes = fc.oneof(
      hostile(valid.map((events) => Buffer.from(JSON.stringify(events)))),
      valid.chain((events) => changedIn(events)),
    );
    fuzz(bytes, surroundings, (message, around) => {
      const read = (from: Uint8Array) => outcomeOf(() => decodeEvents(from).map(validateEvent));
      const outcome = read(message);
      assert.deepEqual(read(viewWithin(around, message)), outcome);
      if ('code' in outcome) assert.equal(outcome.code, 'INVALID_EVENT');
      else assert.deepEqual(decodeEvents(encodeEvents(outcome.value)), outcome.value);
    });
  });

  test('messages: INVALID_MESSAGE, or a value that comes back as it was, wherever it lies', () => {
    for (const [message, values] of messageSamples) {
      const valid = fc.constantFrom(...values);
      const bytes = fc.oneof(
        hostile(valid.map((value) => Buffer.from(JSON.stringify(value)))),
        valid.chain((value) => changedIn(value)),
      );
      fuzz(bytes, surroundings, (encoded, around) => {
        const outcome = outcomeOf<unknown>(() => message.decode(encoded));
        assert.deepEqual(
          outcomeOf<unknown>(() => message.decode(viewWithin(around, encoded))),
          outcome,
        );
        if ('code' in outcome) assert.equal(outcome.code, 'INVALID_MESSAGE');
        else assert.deepEqual(message.decode(message.encode(outcome.value as never)), outcome.value);
      });
    }
  });
});
