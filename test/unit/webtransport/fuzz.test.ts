import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeVarint, MAX_VARINT } from '../../../data-plane/http3/varint.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { MAX_CAPSULE_BYTES } from '../../../data-plane/masque/capsule-treatment.ts';
import { ForwardedCapsules } from '../../../data-plane/webtransport/forwarded-capsules.ts';
import { readCloseCode } from '../../../data-plane/webtransport/session-capsule.ts';
import { cuts, fuzz, hostile, inPieces, outcomeOf, surroundings, viewWithin } from '../../support/fuzz.ts';
import { concat } from '../http3/recording.ts';

test('capsules that are passed on are whole ones of the tunnel, however they are cut', () => {
  const capsule = fc.oneof(
    fc.tuple(fc.nat(5), fc.uint8Array({ maxLength: 30 })).map(([type, value]) => encodeCapsule(type, value)),
    fc
      .tuple(fc.nat(5), fc.bigInt({ min: 0n, max: MAX_VARINT }))
      .map(([type, length]) => concat(encodeVarint(type), encodeVarint(length))),
  );
  fuzz(hostile(fc.array(capsule, { maxLength: 5 }).map((all) => concat(...all))), cuts, (bytes, lengths) => {
    const pass = (pieces: readonly number[]) => {
      const passed: string[] = [];
      const capsules = new ForwardedCapsules((one) => passed.push(Buffer.from(one).toString('hex')));
      const outcome = outcomeOf(() => {
        inPieces(bytes, pieces, (piece) => capsules.push(piece));
        capsules.end();
      });
      return { passed, outcome };
    };
    const whole = pass([Number.MAX_SAFE_INTEGER]);
    assert.deepEqual(pass(lengths), whole);
    for (const one of whole.passed) assert.ok(['00', '01', '02', '03'].includes(one.slice(0, 2)), one);
  });
});

test('item 25 a capsule beyond the limit is too much, as in any other tunnel', () => {
  const capsules = new ForwardedCapsules(() => {});
  const start = concat(encodeVarint(1), encodeVarint(MAX_CAPSULE_BYTES + 1));
  assert.deepEqual(
    outcomeOf(() => capsules.push(start)),
    { code: 'H3_EXCESSIVE_LOAD' },
  );
});

test('the code of a close is read within its end, wherever it lies', () => {
  const close = fc.uint8Array({ minLength: 4, maxLength: 20 });
  fuzz(hostile(close), surroundings, (value, around) => {
    const code = readCloseCode(value);
    assert.equal(code, value.length < 4 ? undefined : Buffer.from(value).readUInt32BE());
    assert.equal(readCloseCode(viewWithin(around, value)), code);
  });
});
