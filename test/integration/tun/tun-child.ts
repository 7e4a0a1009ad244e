/**
 * Runs inside a network namespace of a test's own: `node tun-child.ts <case>`. Exits 0 when the case holds; an assertion that fails is on
 * standard error. A separate process, because a namespace belongs to a process and the responder blocks its thread.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync, writeSync } from 'node:fs';
import { createEchoInfo, readEcho, writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { Poller } from '../../../data-plane/os/poller.ts';
import { TunDevice } from '../../../data-plane/tun/tun-device.ts';
import { ACK, cutNaively, type Sample } from '../../unit/tun/sample-flows.ts';

const SEGMENTS: Sample = {
  family: 4,
  protocol: 'tcp',
  sourcePort: 1,
  ttl: 64,
  dontFragment: true,
  identification: 1,
  sequence: 1,
  acknowledgment: 1,
  flags: ACK,
  window: 100,
  options: new Uint8Array(0),
  payload: new Uint8Array(1500),
};

const show = (...args: string[]) => JSON.parse(execFileSync('ip', ['-j', ...args], { encoding: 'utf8' }) || '[]');
const hasError =
  (code: string, ...parts: string[]) =>
  (error: unknown) => {
    assert.ok(error instanceof Error && 'code' in error, String(error));
    assert.equal(error.code, code, error.message);
    for (const part of parts) assert.ok(error.message.includes(part), `"${error.message}" does not say "${part}"`);
    return true;
  };

const cases: Record<string, () => void> = {
  /** Answers all echo requests until it is killed; what else the kernel sends on its own is an error. */
  respond() {
    const tun = openConfigured();
    const poller = new Poller();
    poller.add(tun.fd);
    writeSync(1, 'ready\n');
    const [packet, reply] = [new Uint8Array(2000), new Uint8Array(2000)];
    const [info, echo] = [createPacketInfo(), createEchoInfo()];
    for (;;) {
      poller.wait(-1);
      for (let length = tun.read(packet); length > 0; length = tun.read(packet)) {
        assert.equal(inspectPacket(packet, 0, length, info), 'ok');
        const at = (offset: number) => packet.subarray(offset, offset + info.addressLength);
        assert.equal(
          readEcho(packet, 0, info, echo),
          'request',
          `unasked for: ${Buffer.from(packet.subarray(0, length)).toString('hex')}`,
        );
        const answer = {
          kind: 'reply' as const,
          source: at(info.destinationOffset),
          destination: at(info.sourceOffset),
          identifier: echo.identifier,
          sequence: echo.sequence,
          payload: packet.subarray(echo.payloadOffset, echo.payloadOffset + echo.payloadLength),
        };
        assert.ok(tun.write(reply, 0, writeEcho(reply, 0, answer)));
      }
    }
  },

  configure() {
    const tun = openConfigured();
    assert.match(tun.name, /^mv\d+$/, 'the kernel picked the number');
    assert.equal(tun.mtu, 1400);
    tun.mtu = 1300;
    const [link] = show('address', 'show', 'dev', tun.name);
    assert.equal(link.mtu, 1300);
    assert.ok(link.flags.includes('UP'));
    const addresses = () =>
      show('address', 'show', 'dev', tun.name)[0].addr_info.map(
        (a: { local: string; prefixlen: number }) => `${a.local}/${a.prefixlen}`,
      );
    assert.deepEqual(addresses(), ['10.88.0.1/24', 'fd88::1/64'], 'and no link-local address');
    tun.addAddress('10.88.0.1/24'); // again
    tun.addAddress('10.88.5.1/32');
    assert.deepEqual(addresses(), ['10.88.0.1/24', '10.88.5.1/32', 'fd88::1/64']);
    tun.removeAddress('10.88.5.1/32');
    tun.removeAddress('fd88::1/64');
    assert.deepEqual(addresses(), ['10.88.0.1/24']);
  },

  'without-ipv6'() {
    for (const which of ['all', 'default']) writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, '1');
    const tun = openConfigured();
    tun.addRoute('2001:db8::/32');
    const [link] = show('-6', 'address', 'show', 'dev', tun.name);
    assert.deepEqual(
      link.addr_info.map((a: { local: string }) => a.local),
      ['fd88::1'],
    );
  },

  routes() {
    const tun = openConfigured();
    const routes = (family: string) =>
      show(family, 'route', 'show', 'dev', tun.name).map((r: { dst: string }) => r.dst);
    tun.addRoute('192.0.2.0/24', { source: '10.88.0.1', metric: 50 });
    tun.addRoute('192.0.2.0/24', { source: '10.88.0.1', metric: 50 });
    tun.addRoute('2001:db8::/32');
    assert.ok(routes('-4').includes('192.0.2.0/24'));
    assert.ok(routes('-6').includes('2001:db8::/32'));
    tun.removeRoute('192.0.2.0/24', { metric: 50 });
    tun.removeRoute('2001:db8::/32');
    assert.ok(!routes('-4').includes('192.0.2.0/24'));
    assert.ok(!routes('-6').includes('2001:db8::/32'));
    assert.throws(
      () => tun.removeRoute('192.0.2.0/24'),
      hasError('IP_COMMAND_FAILED', `ip -4 route delete 192.0.2.0/24 dev ${tun.name}`, 'No such process'),
    );
    assert.throws(() => tun.addRoute('default'), hasError('INVALID_PREFIX', '"default"'));
    process.env.PATH = '/nowhere';
    assert.throws(() => tun.up(), hasError('IP_COMMAND_MISSING', 'iproute2'));
  },

  packets() {
    const tun = TunDevice.open({ name: 'mv%d', mtu: 1400 });
    const buffer = new Uint8Array(2000);
    assert.equal(tun.read(buffer), 0, 'nothing waits');
    const echo = {
      kind: 'request' as const,
      source: Uint8Array.of(10, 88, 0, 2),
      destination: Uint8Array.of(10, 88, 0, 1),
      identifier: 7,
      sequence: 1,
      payload: new Uint8Array(56).fill(9),
    };
    const length = writeEcho(buffer, 3, echo);
    assert.equal(tun.write(buffer, 3, length), false, 'an interface that is down takes nothing');
    assert.deepEqual([tun.sent.drops, tun.sent.packets], [1, 0]);
    tun.addAddress('10.88.0.1/24');
    tun.up();
    assert.equal(tun.write(buffer, 3, length), true);
    const poller = new Poller();
    poller.add(tun.fd);
    assert.equal(poller.wait(5000), 1, "the kernel's own answer");
    const [info, answer] = [createPacketInfo(), createEchoInfo()];
    const read = tun.read(buffer, 100);
    assert.equal(inspectPacket(buffer, 100, read, info), 'ok');
    assert.equal(readEcho(buffer, 100, info, answer), 'reply');
    assert.deepEqual([answer.identifier, answer.sequence, answer.payloadLength], [7, 1, 56]);
    assert.deepEqual(
      [tun.received.packets, tun.received.bytes, tun.sent.packets, tun.sent.bytes],
      [1, length, 1, length],
    );
    assert.equal(tun.write(Uint8Array.of(0x50, 1, 2, 3), 0, 4), false, 'no IP packet');
    assert.equal(tun.sent.drops, 2);
    assert.throws(() => tun.write(buffer, 1999, 2), RangeError);
  },

  'queued packets'() {
    for (const offload of ['auto', 'off'] as const) {
      const dropped: unknown[] = [];
      const tun = TunDevice.open<string>({ name: 'mvtun', mtu: 1400, offload }, (owner, packets, bytes) =>
        dropped.push(owner, packets, bytes),
      );
      const [first, second] = cutNaively(SEGMENTS, 1000);
      assert.ok(first !== undefined && second !== undefined);
      const queue = (): void => {
        for (const packet of [first, second]) tun.queue(packet, 0, packet.length, 'one');
        tun.queue(first, 0, first.length, 'other');
      };
      queue();
      tun.flush();
      // The interface is down. Runs are told of as a whole; all that counts is the sum.
      const bytes = first.length + second.length;
      const together = ['one', 2, bytes, 'other', 1, first.length];
      const apart = ['one', 1, first.length, 'one', 1, second.length, 'other', 1, first.length];
      assert.deepEqual(dropped, tun.offload === 'off' ? apart : together);
      assert.deepEqual([tun.sent.packets, tun.sent.drops], [0, 3]);

      tun.up();
      queue();
      tun.flush();
      assert.deepEqual([tun.sent.packets, tun.sent.bytes, tun.sent.drops], [3, bytes + first.length, 3]);

      dropped.length = 0;
      execFileSync('ip', ['link', 'delete', 'mvtun']);
      const gone = () => {
        queue();
        tun.flush();
      };
      assert.throws(gone, hasError('TUN_GONE', 'mvtun'));
      assert.deepEqual(dropped.slice(0, 3), (tun.offload === 'off' ? apart : together).slice(0, 3));
      tun.release();
      assert.throws(() => tun.queue(first, 0, first.length, 'one'), hasError('TUN_GONE', 'mvtun'));
    }
  },

  ends() {
    const tun = TunDevice.open({ name: 'mvtun', mtu: 1280 });
    assert.throws(() => TunDevice.open({ name: 'mvtun', mtu: 1280 }), hasError('TUN_BUSY', 'mvtun', 'in use'));
    tun.release();
    tun.release();
    assert.throws(() => tun.read(new Uint8Array(1)), hasError('TUN_GONE', 'mvtun'));
    assert.throws(() => tun.mtu, hasError('TUN_GONE', 'mvtun'));
    const again = TunDevice.open({ name: 'mvtun', mtu: 1280 });
    execFileSync('ip', ['link', 'delete', 'mvtun']);
    assert.throws(() => again.read(new Uint8Array(1500)), hasError('TUN_GONE', 'mvtun'));
    assert.throws(() => again.write(new Uint8Array(1500), 0, 20), hasError('TUN_GONE', 'mvtun'));
  },

  refuses() {
    for (const name of ['', '.', '..', 'a b', 'a/b', 'sixteen-letters-', '%s', 'a%d%d']) {
      assert.throws(() => TunDevice.open({ name, mtu: 1400 }), hasError('TUN_INVALID', `"${name}"`));
    }
    for (const mtu of [67, 65_536, 1400.5, Number.NaN]) {
      assert.throws(() => TunDevice.open({ name: 'mvtun', mtu }), hasError('TUN_INVALID', 'mvtun', String(mtu)));
    }
    assert.deepEqual(
      show('link').map((link: { ifname: string }) => link.ifname),
      ['lo'],
      'nothing is left of them',
    );
    assert.throws(() => TunDevice.open({ name: 'lo', mtu: 1400 }), hasError('TUN_INVALID', 'lo'));
  },

  missing() {
    assert.throws(() => TunDevice.open({ name: 'mv%d', mtu: 1400 }), hasError('TUN_MISSING', '/dev/net/tun'));
  },

  'not-permitted'() {
    process.setgroups?.([]);
    process.setgid?.(65_534);
    process.setuid?.(65_534);
    assert.throws(
      () => TunDevice.open({ name: 'mv%d', mtu: 1400 }),
      hasError('TUN_NOT_PERMITTED', '/dev/net/tun', 'CAP_NET_ADMIN'),
    );
  },
};

function openConfigured(): TunDevice {
  const tun = TunDevice.open({ name: 'mv%d', mtu: 1400 });
  tun.addAddress('10.88.0.1/24');
  tun.addAddress('fd88::1/64');
  tun.up();
  return tun;
}

const run = cases[process.argv[2] ?? ''];
assert.ok(run, `no case ${process.argv[2]}`);
run();
