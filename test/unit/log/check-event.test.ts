import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkEvent } from '../../../control-plane/log/check-event.ts';
import { envelope, samples } from '../shared/sample-events.ts';

test('two spellings of an address, a prefix or a list of them become one', () => {
  const assigned = {
    ...samples['address.assigned'],
    address: 'FD00:99:0::7',
    pool: 'fd00:99:0::/64',
    block: 'FD00:99::/120',
  };
  const { data } = checkEvent(envelope('address.assigned', assigned));
  assert.deepEqual(data, { ...assigned, address: 'fd00:99::7', pool: 'fd00:99::/64', block: 'fd00:99::/120' });
  const set = { clientId: 'c1', addresses: ['10.99.0.9', 'FD00::0:1'], actor: 'admin' };
  assert.deepEqual(checkEvent(envelope('client.addresses_set', set)).data, {
    ...set,
    addresses: ['10.99.0.9', 'fd00::1'],
  });
});

test('what has the shape of an address, a prefix or a time and is none is named', () => {
  const broken = (type: 'address.assigned' | 'node.lost' | 'client.addresses_set', field: object) => () =>
    checkEvent(envelope(type, { ...samples[type], ...field }));
  assert.throws(broken('address.assigned', { address: '10.99.0.256' }), /10[.]99[.]0[.]256/);
  assert.throws(broken('address.assigned', { pool: '10.99.0.1/16' }), /10[.]99[.]0[.]1\/16/);
  assert.throws(broken('client.addresses_set', { addresses: ['1.2.3'] }), /1[.]2[.]3/);
  assert.throws(broken('node.lost', { lastSeenAt: '2026-02-31T00:00:00.000Z' }), /2026-02-31/);
});

test('the name of a pool is no prefix', () => {
  assert.deepEqual(
    checkEvent(envelope('client.enrolled', samples['client.enrolled'])).data,
    samples['client.enrolled'],
  );
});
