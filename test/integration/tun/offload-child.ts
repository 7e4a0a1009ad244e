/**
 * Runs inside a network namespace of a test's own: `node offload-child.ts <role> <arguments>`. `bridge` opens two TUN devices, moves one of
 * them to another namespace and carries packets between them; the other roles send and receive through it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Poller } from '../../../data-plane/os/poller.ts';
import { TunDevice } from '../../../data-plane/tun/tun-device.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';

const POLL_MS = 50;
const MTU = 1400;
const PORT = 5001;
const DATAGRAM_BYTES = 1200;

const roles: Record<string, (...args: string[]) => Promise<void>> = {
  async bridge(offload = '', otherNamespace = '') {
    assert.ok(offload === 'auto' || offload === 'off');
    const near = TunDevice.open({ name: 'near', mtu: MTU, offload });
    near.addAddress('10.88.0.1/24');
    near.addAddress('fd88::1/64');
    near.up();
    const far = TunDevice.open({ name: 'far', mtu: MTU, offload });
    execFileSync('ip', ['link', 'set', 'far', 'netns', otherNamespace]);
    const inOther = (...args: string[]) => execFileSync('ip', ['-n', otherNamespace, ...args]);
    inOther('address', 'add', '10.88.0.2/24', 'dev', 'far');
    inOther('address', 'add', 'fd88::2/64', 'dev', 'far', 'nodad');
    inOther('link', 'set', 'far', 'up');

    let stopped = false;
    process.stdin.once('data', () => {
      stopped = true;
    });
    const carry = (from: TunDevice, to: TunDevice): void => {
      const handler = (bytes: Uint8Array, offset: number, length: number): void => {
        assert.ok(length <= MTU, `a packet of ${length} bytes`);
        to.queue(bytes, offset, length, undefined);
      };
      for (let i = 0; i < 16 && from.receive(handler) > 0; i++);
      to.flush();
    };
    const poller = new Poller();
    for (const tun of [near, far]) poller.add(tun.fd);
    writeSync(1, 'ready\n');
    while (!stopped) {
      poller.wait(POLL_MS);
      carry(near, far);
      carry(far, near);
      await nextTurn();
    }
    const report = [near, far].map(({ offload: taken, received, sent }) => ({
      offload: taken,
      received: { packets: received.packets, bytes: received.bytes, reads: received.reads, drops: received.drops },
      sent: {
        packets: sent.packets,
        bytes: sent.bytes,
        writes: sent.writes,
        drops: sent.drops,
        refusedRuns: sent.refusedRuns,
      },
    }));
    writeSync(1, `${JSON.stringify(report)}\n`);
    process.exit(0);
  },

  async 'tcp-receive'(host) {
    const hash = createHash('sha256');
    const server = createServer((socket) => {
      socket.on('data', (data) => hash.update(data));
      socket.on('end', () => {
        writeSync(1, `${hash.digest('hex')}\n`);
        socket.end();
        server.close();
      });
    });
    server.listen(PORT, host, () => writeSync(1, 'ready\n'));
  },

  async 'tcp-send'(host = '', bytes = '') {
    const hash = createHash('sha256');
    const socket = connect(PORT, host);
    let left = Number(bytes);
    let seed = 1;
    while (left > 0) {
      const chunk = Buffer.alloc(Math.min(left, 65_536));
      for (let i = 0; i + 3 < chunk.length; i += 4) {
        seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
        chunk.writeInt32LE(seed, i);
      }
      left -= chunk.length;
      hash.update(chunk);
      if (!socket.write(chunk)) await new Promise((resolve) => socket.once('drain', resolve));
    }
    socket.end();
    await new Promise((resolve) => socket.resume().once('close', resolve));
    writeSync(1, `${hash.digest('hex')}\n`);
  },

  /** Datagrams are numbered; the last one may be shorter. */
  async 'udp-receive'(host = '', count = '') {
    const socket = UdpSocket.bind(`${host}:${PORT}`);
    const poller = new Poller();
    poller.add(socket.fd);
    writeSync(1, 'ready\n');
    const numbers: number[] = [];
    while (numbers.length < Number(count)) {
      assert.ok(poller.wait(10_000) > 0, `${numbers.length} of ${count} datagrams came`);
      socket.receive((bytes, offset, length) => {
        const number = new DataView(bytes.buffer, bytes.byteOffset + offset).getUint32(0);
        assert.equal(length, DATAGRAM_BYTES - (number % 10 === 9 ? 100 : 0));
        assert.ok(bytes.subarray(offset + 4, offset + length).every((byte) => byte === (number & 0xff)));
        numbers.push(number);
      });
    }
    assert.deepEqual(
      numbers,
      numbers.map((_, i) => i),
      'in order',
    );
    writeSync(1, 'all\n');
  },

  async 'udp-send'(from = '', to = '', count = '') {
    const socket = UdpSocket.bind(`${from}:0`);
    const peer = socket.peers.fromText(`${to}:${PORT}`);
    const bytes = new Uint8Array(DATAGRAM_BYTES);
    for (let number = 0; number < Number(count); number++) {
      bytes.fill(number & 0xff);
      new DataView(bytes.buffer).setUint32(0, number);
      // Runs of 10, the last one shorter, so that the kernel has something to cut.
      socket.queue(bytes, 0, DATAGRAM_BYTES - (number % 10 === 9 ? 100 : 0), peer);
      if (number % 100 === 99) await nextTurn();
    }
    socket.flush();
    assert.equal(socket.sent.datagrams, Number(count));
    writeSync(1, `${socket.sent.calls}\n`);
  },
};

const [role = '', ...args] = process.argv.slice(2);
const run = roles[role];
assert.ok(run, `no role ${role}`);
await run(...args);
