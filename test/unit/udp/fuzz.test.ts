import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { decodeSocketAddress, parseSocketAddress } from '../../../data-plane/udp/socket-address.ts';
import { formatAddress } from '../../../shared/ip/address.ts';
import { fuzz, hostile, outcomeOf, surroundings, within } from '../../support/fuzz.ts';
import { anyAddress, near } from '../shared/sample-addresses.ts';

const anyText = fc.tuple(anyAddress, fc.nat(65_535)).map(([address, port]) => {
  return address.family === 4 ? `${formatAddress(address)}:${port}` : `[${formatAddress(address)}]:${port}`;
});

suite('socket addresses', () => {
  test('any text is one in its canonical form, or INVALID_SOCKET_ADDRESS', () => {
    fuzz(anyText, (text) => assert.equal(parseSocketAddress(text).text, text));
    fuzz(near(anyText), (text) => {
      const outcome = outcomeOf(() => parseSocketAddress(text));
      if ('code' in outcome) assert.equal(outcome.code, 'INVALID_SOCKET_ADDRESS');
      else assert.deepEqual(parseSocketAddress(outcome.value.text), outcome.value);
    });
  });

  test('the kernel form is read within its end, wherever it lies', () => {
    fuzz(
      hostile(
        anyText.map((text) => parseSocketAddress(text).bytes),
        40,
      ),
      surroundings,
      (bytes, around) => {
        const outcome = outcomeOf(() => decodeSocketAddress(bytes, 0));
        if ('code' in outcome) {
          assert.equal(outcome.code, 'INVALID_SOCKET_ADDRESS');
          return;
        }
        assert.equal(parseSocketAddress(outcome.value.text).text, outcome.value.text);
        const { buffer, offset } = within(around, bytes);
        assert.deepEqual(decodeSocketAddress(buffer, offset), outcome.value);
      },
    );
  });
});
