import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { controlEventSchemas } from '../../../shared/events/control-events.ts';
import {
  decodeEvents,
  encodeEvents,
  MAX_EVENTS_PER_MESSAGE,
  type VpnEvent,
  validateEvent,
} from '../../../shared/events/envelope.ts';
import { nodeEventSchemas } from '../../../shared/events/node-events.ts';
import { CONTROL_EVENT_SUBJECT, nodeEventSubject, nodeOfEventSubject } from '../../../shared/events/subjects.ts';
import { envelope, samples } from './sample-events.ts';

const encode = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const invalid = { code: 'INVALID_EVENT' };

suite('events on the wire', () => {
  test('every type has a sample here, and each comes back as it was', () => {
    const types = Object.keys({ ...nodeEventSchemas, ...controlEventSchemas });
    assert.deepEqual(types.toSorted(), Object.keys(samples).toSorted());
    for (const [type, data] of Object.entries(samples)) {
      const event = envelope(type, data) as unknown as VpnEvent;
      const [decoded] = decodeEvents(encodeEvents([event]));
      assert.deepEqual(validateEvent(decoded as NonNullable<typeof decoded>), event, type);
    }
  });

  test('a field that lacks, that is too many, or that is of another kind is named', () => {
    for (const [type, data] of Object.entries(samples)) {
      for (const field of Object.keys(data)) {
        const { [field]: _, ...without } = data as Record<string, unknown>;
        for (const broken of [without, { ...data, [field]: { wrong: 1 } }, { ...data, [field]: undefined }]) {
          if (field === 'drops' && broken !== without && JSON.stringify(broken).includes('"wrong"')) continue;
          const [decoded] = decodeEvents(encode([envelope(type, broken)]));
          assert.throws(() => validateEvent(decoded as NonNullable<typeof decoded>), invalid, `${type}.${field}`);
        }
      }
      const [extra] = decodeEvents(encode([envelope(type, { ...data, surplus: 1 })]));
      const message = new RegExp(`: /surplus is an unknown field, known are ${Object.keys(data).at(0)}`);
      assert.throws(() => validateEvent(extra as NonNullable<typeof extra>), { ...invalid, message }, type);
    }
  });

  test('an unknown type or version is told apart from a broken message', () => {
    const [unknown] = decodeEvents(encode([envelope('node.exploded', {})]));
    assert.throws(() => validateEvent(unknown as NonNullable<typeof unknown>), /unknown type/);
    const [newer] = decodeEvents(encode([{ ...envelope('node.stopped', { reason: '' }), version: 2 }]));
    assert.throws(
      () => validateEvent(newer as NonNullable<typeof newer>),
      /unknown version 2, known are those up to 1/,
    );
  });

  test('envelopes that are not whole, and messages that are none, are refused', () => {
    const good = envelope('node.stopped', { reason: '' });
    const broken = [
      { ...good, seq: 0 },
      { ...good, seq: 1.5 },
      { ...good, seq: '1' },
      { ...good, epoch: 'AB'.repeat(16) },
      { ...good, incarnation: 'ab' },
      { ...good, node: 'Node A' },
      { ...good, node: '' },
      { ...good, at: '2026-01-02 03:04:05' },
      { ...good, data: null },
      { ...good, data: 'x' },
    ];
    for (const one of broken) assert.throws(() => decodeEvents(encode([one])), invalid, JSON.stringify(one));
    for (const message of [[], {}, null, 'x', 5, [null]]) assert.throws(() => decodeEvents(encode(message)), invalid);
    const many = Array.from({ length: MAX_EVENTS_PER_MESSAGE + 1 }, (_, i) => ({ ...good, seq: i + 1 }));
    assert.throws(() => decodeEvents(encode(many)), invalid);
    assert.equal(decodeEvents(encode(many.slice(1))).length, MAX_EVENTS_PER_MESSAGE);
  });

  test('a message that is cut anywhere, and any other bytes, are refused with that error alone', () => {
    const whole = encodeEvents([envelope('node.stopped', { reason: 'ü' }) as unknown as VpnEvent]);
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => decodeEvents(whole.subarray(0, length)), invalid);
    }
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((json) => Buffer.from(json)),
        ),
        (bytes) => {
          try {
            decodeEvents(bytes);
          } catch (error) {
            assert.equal((error as { code?: string }).code, 'INVALID_EVENT');
          }
        },
      ),
    );
  });
});

suite('subjects', () => {
  test('a subject says whose events it carries', () => {
    assert.equal(nodeOfEventSubject(nodeEventSubject('node-a')), 'node-a');
    assert.equal(nodeOfEventSubject(CONTROL_EVENT_SUBJECT), 'control');
  });

  test('no node passes for the control plane or for two tokens', () => {
    for (const subject of ['vpn.events.node.control', 'vpn.events.node.', 'vpn.events.node.a.b', 'vpn.events', 'x']) {
      assert.equal(nodeOfEventSubject(subject), undefined, subject);
    }
  });
});
