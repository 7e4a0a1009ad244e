import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TunConfiguration } from '../../../data-plane/client/tun-configuration.ts';
import { IpCommandError } from '../../../data-plane/tun/ip-command.ts';
import type { TunDevice } from '../../../data-plane/tun/tun-device.ts';

const SERVER = '198.51.100.2';

/** Writes down what is asked of the interface; `refuses` is what `ip` has no mind to do. */
function recorder() {
  const done: string[] = [];
  const refuses = new Set<string>();
  const step = (what: string) => (prefix: string) => {
    const text = `${what} ${prefix}`;
    if (refuses.has(text)) throw new IpCommandError('IP_COMMAND_FAILED', text, 'no', undefined);
    done.push(text);
  };
  const tun = {
    addAddress: step('+address'),
    removeAddress: step('-address'),
    addRoute: step('+route'),
    removeRoute: step('-route'),
  };
  return { done, refuses, tun: tun as unknown as TunDevice };
}

test('what changed is set and what is gone is taken back', () => {
  const { done, tun } = recorder();
  const configuration = new TunConfiguration(tun, undefined);
  configuration.apply({ addresses: ['10.99.0.2/32'], routes: ['10.0.0.0/8', 'fd00::/8'] }, SERVER);
  assert.deepEqual(done.splice(0), ['+address 10.99.0.2/32', '+route 10.0.0.0/8'], 'no route without an address');
  configuration.apply({ addresses: ['10.99.0.3/32'], routes: ['192.0.2.0/24'] }, SERVER);
  assert.deepEqual(done, [
    '-address 10.99.0.2/32',
    '+address 10.99.0.3/32',
    '-route 10.0.0.0/8',
    '+route 192.0.2.0/24',
  ]);
});

test('what cannot be taken back is gone already; what cannot be set is an error', () => {
  const { done, refuses, tun } = recorder();
  const configuration = new TunConfiguration(tun, ['192.0.2.0/24']);
  configuration.apply({ addresses: ['10.99.0.2/32'], routes: [] }, SERVER);
  refuses.add('-address 10.99.0.2/32');
  configuration.apply({ addresses: ['10.99.0.3/32'], routes: [] }, SERVER);
  assert.deepEqual(done.slice(-2), ['+address 10.99.0.3/32', '+route 192.0.2.0/24']);
  refuses.add('+address 10.99.0.4/32');
  assert.throws(() => configuration.apply({ addresses: ['10.99.0.4/32'], routes: [] }, SERVER), {
    code: 'IP_COMMAND_FAILED',
  });
});
