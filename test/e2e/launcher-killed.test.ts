import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { slotNamespaces } from '../../deploy/local/netns-topology.ts';
import { identifyProcess, isAlive, type ProcessIdentity } from '../../deploy/local/process-identity.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { waitFor } from '../support/wait-for.ts';

const script = fileURLToPath(new URL('./support/doomed-cluster.ts', import.meta.url));
const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 60_000;

test('a launcher that is killed leaves no process, namespace, mount, interface or file of its cluster', {
  skip,
}, async (t) => {
  const directory = join(temporaryDirectory(t), 'cluster');
  mkdirSync(directory);
  const interfaces = new Set(readdirSync('/sys/class/net'));
  const launcher = spawn(process.execPath, [script, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => launcher.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: launcher.stdout }), 'line');
  const { slot, pids } = JSON.parse(line) as { slot: number; pids: number[] };
  const started = pids.map(identifyProcess);
  assert.ok(started.length === 5 && started.every((identity) => identity !== undefined));
  assert.ok(mountsOf(slot).length > 0);
  assert.ok(processesOf(directory).length >= started.length);

  launcher.kill('SIGKILL');
  await waitFor(() => !existsSync(directory), { timeoutMs: TIMEOUT_MS, what: 'the janitor to finish' });
  assert.deepEqual(
    started.filter((identity) => isAlive(identity as ProcessIdentity)),
    [],
  );
  // Backends of a Postgres that was ended see it a moment later.
  await waitFor(() => processesOf(directory).length === 0, {
    timeoutMs: TIMEOUT_MS,
    what: 'the last of its processes',
  });
  assert.deepEqual(await slotNamespaces(slot), []);
  assert.deepEqual(mountsOf(slot), []);
  assert.equal(existsSync(`/run/masque-vpn/${slot}.json`), false);
  const left = readdirSync('/sys/class/net').filter((name) => name.startsWith(`mv${slot}`) && !interfaces.has(name));
  assert.deepEqual(left, []);
});

function mountsOf(slot: number): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return mounts.filter((mount) => mount.includes(`/mv${slot}-`));
}

/** Command lines of the processes that name the directory or work in it, but for the launcher. */
function processesOf(directory: string): string[] {
  const found = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        const uses = `${command} ${environment} ${readlinkSync(`/proc/${pid}/cwd`)}`.includes(directory);
        return uses && !command.includes(script) ? `${pid} ${command}` : undefined;
      } catch {
        // It has ended meanwhile.
        return undefined;
      }
    });
  return found.filter((command) => command !== undefined);
}
