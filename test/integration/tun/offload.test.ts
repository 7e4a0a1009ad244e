import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { needsRoot } from '../../support/requirements.ts';

const CHILD = fileURLToPath(new URL('./offload-child.ts', import.meta.url));
const TCP_BYTES = 20_000_000;
/** Fewer than the TUN's queue holds: none may be lost. */
const DATAGRAMS = 800;
const TIMEOUT_MS = 60_000;

interface DeviceReport {
  readonly offload: 'off' | 'tcp' | 'tcp-udp';
  readonly received: {
    readonly packets: number;
    readonly bytes: number;
    readonly reads: number;
    readonly drops: number;
  };
  readonly sent: {
    readonly packets: number;
    readonly bytes: number;
    readonly writes: number;
    readonly drops: number;
    readonly refusedRuns: number;
  };
}

/** A child in a namespace, whose lines of output are read one after the other. */
class Child {
  readonly process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(t: TestContext, namespace: string, ...args: string[]) {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, CHILD, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.process = child;
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    t.after(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, `the child ended (exit code ${this.process.exitCode})`);
    return value;
  }
}

let namespaces = 0;
function namespace(t: TestContext): string {
  const name = `mvo-${process.pid}-${namespaces++}`;
  execFileSync('ip', ['netns', 'add', name]);
  t.after(() => execFileSync('ip', ['netns', 'delete', name]));
  return name;
}

async function startBridge(t: TestContext, offload: string) {
  const [near, far] = [namespace(t), namespace(t)];
  const bridge = new Child(t, near, 'bridge', offload, far);
  assert.equal(await bridge.line(), 'ready');
  const stop = async (): Promise<readonly [DeviceReport, DeviceReport]> => {
    bridge.process.stdin?.write('stop\n');
    return JSON.parse(await bridge.line());
  };
  return { near, far, stop };
}

/** Nothing was lost or made up on the way, in either direction. */
function assertExact([near, far]: readonly [DeviceReport, DeviceReport]): void {
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    assert.equal(from.received.drops, 0);
    assert.deepEqual([to.sent.packets, to.sent.bytes], [from.received.packets, from.received.bytes]);
    assert.deepEqual([to.sent.drops, to.sent.refusedRuns], [0, 0]);
  }
}

describe('TUN offload', { skip: needsRoot() }, () => {
  for (const offload of ['auto', 'off']) {
    for (const [family, address] of [
      ['IPv4', '10.88.0.2'],
      ['IPv6', 'fd88::2'],
    ] as const) {
      it(`carries ${TCP_BYTES / 1e6} MB of TCP over ${family} unchanged, offload ${offload}`, {
        timeout: TIMEOUT_MS,
      }, async (t) => {
        const { near, far, stop } = await startBridge(t, offload);
        const receiver = new Child(t, far, 'tcp-receive', address);
        assert.equal(await receiver.line(), 'ready');
        const sender = new Child(t, near, 'tcp-send', address, String(TCP_BYTES));
        const [received256, sent256] = await Promise.all([receiver.line(), sender.line()]);
        assert.equal(received256, sent256, 'sha256');
        const report = await stop();
        assertExact(report);
        const [{ offload: taken, received }, { sent }] = report;
        assert.ok(received.packets > TCP_BYTES / 1400);
        if (offload === 'off') {
          assert.equal(taken, 'off');
          assert.deepEqual([received.reads, sent.writes], [received.packets, sent.packets]);
        } else if (taken !== 'off') {
          assert.ok(received.packets > received.reads * 4, `${received.packets} packets in ${received.reads} reads`);
          assert.ok(sent.packets > sent.writes * 4, `${sent.packets} packets in ${sent.writes} writes`);
        }
      });
    }

    for (const [family, from, to] of [
      ['IPv4', '10.88.0.1', '10.88.0.2'],
      ['IPv6', '[fd88::1]', '[fd88::2]'],
    ] as const) {
      it(`carries UDP over ${family} in order, datagram by datagram, offload ${offload}`, {
        timeout: TIMEOUT_MS,
      }, async (t) => {
        const { near, far, stop } = await startBridge(t, offload);
        const receiver = new Child(t, far, 'udp-receive', to, String(DATAGRAMS));
        assert.equal(await receiver.line(), 'ready');
        const sender = new Child(t, near, 'udp-send', from, to, String(DATAGRAMS));
        const [calls, all] = await Promise.all([sender.line(), receiver.line()]);
        assert.ok(Number(calls) < DATAGRAMS, 'sent in runs');
        assert.equal(all, 'all');
        const report = await stop();
        assertExact(report);
        const [{ offload: taken, received }, { sent }] = report;
        assert.equal(received.packets, DATAGRAMS);
        if (taken === 'tcp-udp') {
          assert.ok(received.reads < DATAGRAMS / 4, `${received.reads} reads`);
          assert.ok(sent.writes < DATAGRAMS / 4, `${sent.writes} writes`);
        }
      });
    }
  }
});
