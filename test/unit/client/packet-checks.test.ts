import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayEnter, mayLeave } from '../../../data-plane/client/packet-checks.ts';
import { PrefixList } from '../../../data-plane/ip/prefix-list.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { embed, packet } from '../ip/sample-packets.ts';

const OWN = new PrefixList(['10.99.0.7/32', 'fd00:99::7/128'].map(parsePrefix));
const bytesOf = (text: string): Uint8Array => addressToBytes(parseAddress(text));
const ip = (source: string, destination: string, more: { protocol?: number; payload?: Uint8Array } = {}): Uint8Array =>
  packet({ family: source.includes(':') ? 6 : 4, source: bytesOf(source), destination: bytesOf(destination), ...more });
const neighborDiscovery = (source: string, destination: string): Uint8Array =>
  ip(source, destination, { protocol: 58, payload: Uint8Array.of(134, 0, 0, 0, 0, 0, 0, 0) });

function enters(bytes: Uint8Array): boolean {
  const { buffer, offset } = embed(bytes);
  return mayEnter(OWN, buffer, offset, bytes.length);
}

function leaves(bytes: Uint8Array): boolean {
  const { buffer, offset } = embed(bytes);
  return mayLeave(buffer, offset, bytes.length);
}

test('items 28, 34 what the node sends to our addresses enters, from any source; to others of this host nothing does', () => {
  assert.ok(enters(ip('192.0.2.1', '10.99.0.7')));
  assert.ok(enters(ip('203.0.113.9', '10.99.0.7', { protocol: 1 })), 'ICMP of any hop on the way');
  assert.ok(enters(ip('2001:db8::1', 'fd00:99::7')));
  for (const other of ['10.99.0.8', '192.168.1.5', '127.0.0.1']) assert.ok(!enters(ip('192.0.2.1', other)), other);
  for (const other of ['fd00:99::8', '::1', '2001:db8::5']) assert.ok(!enters(ip('2001:db8::1', other)), other);
});

test('item 33 what is for one link neither leaves nor enters', () => {
  for (const bytes of [
    ip('10.99.0.7', '224.0.0.251'),
    ip('10.99.0.7', '169.254.1.1'),
    ip('10.99.0.7', '255.255.255.255'),
    ip('fe80::1', 'ff02::2'),
    ip('fd00:99::7', 'fe80::1'),
    neighborDiscovery('fd00:99::7', '2001:db8::1'),
  ]) {
    assert.equal(leaves(bytes), false);
  }
  assert.ok(leaves(ip('10.99.0.7', '192.0.2.1')) && leaves(ip('fd00:99::7', '2001:db8::1')));
  for (const bytes of [
    ip('169.254.1.1', '10.99.0.7'),
    ip('fe80::1', 'fd00:99::7'),
    neighborDiscovery('2001:db8::1', 'fd00:99::7'),
  ]) {
    assert.equal(enters(bytes), false);
  }
});

test('item 30 what is no packet is dropped, both ways', () => {
  const whole = ip('192.0.2.1', '10.99.0.7');
  for (let length = 0; length < whole.length; length++) {
    assert.equal(enters(whole.subarray(0, length)), false);
    assert.equal(leaves(whole.subarray(0, length)), false);
  }
});
