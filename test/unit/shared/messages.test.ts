import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { CodedError, describeError, errorCode } from '../../../shared/errors.ts';
import { redactUrl } from '../../../shared/log/logger.ts';
import {
  credentialMessage,
  nodeOfPresenceSubject,
  presenceMessage,
  presenceSubject,
} from '../../../shared/nats/messages.ts';
import { credential, samples } from './sample-messages.ts';

/** What earlier builds do not send. */
const OPTIONAL = new Set(['pool', 'remembers', 'lastSeq', 'reportedSeq', 'reported']);
const invalid = { code: 'INVALID_MESSAGE' };

suite('messages over NATS', () => {
  test('each comes back as it was sent', () => {
    for (const [message, values] of samples) {
      for (const value of values) assert.deepEqual(message.decode(message.encode(value as never)), value);
    }
  });

  test('each is refused when a field lacks or is too many, when it is cut, and when it is nothing of the kind', () => {
    for (const [message, values] of samples) {
      for (const value of values) {
        for (const field of Object.keys(value)) {
          const { [field]: _, ...without } = value as Record<string, unknown>;
          const decode = () => message.decode(Buffer.from(JSON.stringify(without)));
          if (OPTIONAL.has(field)) decode();
          else assert.throws(decode, invalid, field);
        }
        assert.throws(() => message.decode(Buffer.from(JSON.stringify({ ...value, surplus: 1 }))), invalid);
        const bytes = message.encode(value as never);
        for (let length = 0; length < bytes.length; length++) {
          assert.throws(() => message.decode(bytes.subarray(0, length)), invalid);
        }
      }
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
          assert.throws(() => message.decode(bytes), invalid);
        }),
        { numRuns: 30 },
      );
    }
  });

  test('an unknown field is named, with those that are known', () => {
    assert.throws(
      () =>
        presenceMessage.decode(
          Buffer.from(JSON.stringify({ epoch: '0'.repeat(32), incarnation: '1'.repeat(32), surplus: 1 })),
        ),
      {
        ...invalid,
        message: 'presence: /surplus is an unknown field, known are epoch, incarnation, lastSeq',
      },
    );
  });

  test('a credential holds a hash, never a token, and no client can be called as the metrics call the rest', () => {
    for (const broken of [{ tokenSha256: 'a token' }, { tokenSha256: 'F'.repeat(64) }, { clientId: '_other' }]) {
      assert.throws(() => credentialMessage.decode(Buffer.from(JSON.stringify({ ...credential, ...broken }))), invalid);
    }
  });

  test('a presence subject names its node', () => {
    assert.equal(nodeOfPresenceSubject(presenceSubject('node-b')), 'node-b');
  });
});

suite('what people and logs are told', () => {
  test('an error with its causes, and its code', () => {
    const error = new CodedError('OUTER', 'outer', { cause: new Error('inner', { cause: 'text' }) });
    assert.equal(describeError(error), 'outer: inner: text');
    assert.equal(errorCode(error), 'OUTER');
    assert.equal(errorCode(new Error('x')), undefined);
    assert.equal(errorCode('x'), undefined);
  });

  test('a URL without what can be secret in it', () => {
    assert.equal(redactUrl('https://u:p@vpn.example:4433/a/b?token=s#f'), 'https://vpn.example:4433/a/b');
    assert.equal(redactUrl('not a url with token=s'), '(not a URL)');
  });
});

test('a client id is a key of the credentials bucket: no empty token between its dots', () => {
  const isValid = (clientId: string) => {
    try {
      return credentialMessage.decode(credentialMessage.encode({ ...credential, clientId })).clientId === clientId;
    } catch {
      return false;
    }
  };
  assert.deepEqual(['a', 'a.b', 'bob.smith-2_x', 'a-.b'].filter(isValid), ['a', 'a.b', 'bob.smith-2_x', 'a-.b']);
  assert.deepEqual(['a..b', 'a...b', '.a', 'a.', '..', '_other', ''].filter(isValid), []);
});
