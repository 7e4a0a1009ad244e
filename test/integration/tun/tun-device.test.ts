import assert from 'node:assert/strict';
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needsBinary, needsRoot } from '../../support/requirements.ts';

const CHILD = fileURLToPath(new URL('./tun-child.ts', import.meta.url));
const run = promisify(execFile);
let namespaces = 0;

/** A network namespace of the test's own, deleted after it, with everything that runs in it. */
function namespace(t: TestContext): string {
  const name = `mvt-${process.pid}-${namespaces++}`;
  execFileSync('ip', ['netns', 'add', name]);
  t.after(() => execFileSync('ip', ['netns', 'delete', name]));
  return name;
}

/** Runs a case of tun-child.ts to its end; its standard error is in what is thrown. */
function childCase(netns: string, name: string, ...wrapper: string[]) {
  return run('ip', ['netns', 'exec', netns, ...wrapper, process.execPath, CHILD, name], { timeout: 30_000 });
}

async function startResponder(t: TestContext, netns: string): Promise<ChildProcess> {
  const child = spawn('ip', ['netns', 'exec', netns, process.execPath, CHILD, 'respond'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
  const [first] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  assert.equal(String(first).trim(), 'ready');
  return child;
}

describe('TunDevice', { skip: needsRoot() }, () => {
  describe('pinged by ping', { skip: needsBinary('ping', 'iputils-ping') }, () => {
    for (const [family, target] of [
      ['-4', '10.88.0.2'],
      ['-6', 'fd88::2'],
    ] as const) {
      it(`answers all of 100 echo requests (${family}), and the kernel sends nothing unasked`, async (t) => {
        const netns = namespace(t);
        const child = await startResponder(t, netns);
        const ping = ['ping', family, '-n', '-q', '-c', '100', '-i', '0.002', '-s', '1000', '-W', '2', target];
        const { stdout } = await run('ip', ['netns', 'exec', netns, ...ping], { timeout: 30_000 });
        assert.match(stdout, /100 packets transmitted, 100 received, 0% packet loss/);
        assert.equal(child.exitCode, null, 'it met echo requests only');
      });
    }
  });

  const cases = [
    ['configure', 'has the name, MTU and addresses that it is given, and no others'],
    ['without-ipv6', 'carries IPv6 on a host whose new interfaces have none'],
    ['routes', 'sets and removes routes, and says what a failed command was and answered'],
    ['packets', 'reads and writes one packet at a time, and counts what the kernel does not take'],
    ['queued packets', 'gives queued packets to the kernel, and tells their owner of those that it does not take'],
    ['ends', 'is gone when released or deleted, and says so'],
    ['refuses', 'refuses names and MTUs that no interface can have'],
    ['not-permitted', 'says when the process lacks the right to make it'],
  ] as const;
  for (const [name, behaviour] of cases) {
    it(behaviour, async (t) => {
      await childCase(namespace(t), name);
    });
  }

  it('says when there is no /dev/net/tun', async (t) => {
    // `ip netns exec` has a mount namespace of its own, so this hides the device from the child only.
    await childCase(namespace(t), 'missing', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh');
  });
});
