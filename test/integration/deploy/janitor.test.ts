import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { slotNamespaces } from '../../../deploy/local/netns-topology.ts';
import { isAlive, type ProcessIdentity } from '../../../deploy/local/process-identity.ts';
import { needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';

const script = fileURLToPath(new URL('./doomed-launcher.ts', import.meta.url));

test('processes, network and directory of a launcher that is killed are gone soon after', {
  skip: needsRoot(),
}, async (t) => {
  const directory = temporaryDirectory(t);
  const launcher = spawn(process.execPath, [script, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => launcher.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: launcher.stdout }), 'line');
  const { slot, processes } = JSON.parse(line) as { slot: number; processes: ProcessIdentity[] };
  assert.equal(processes.length, 2);
  assert.ok(processes.every(isAlive));
  assert.notDeepEqual(await slotNamespaces(slot), []);

  launcher.kill('SIGKILL');
  await waitFor(() => !existsSync(directory), { timeoutMs: 20_000, what: 'the janitor to finish' });
  assert.deepEqual(processes.filter(isAlive), []);
  assert.equal(existsSync(`/run/masque-vpn/${slot}.json`), false);
  assert.deepEqual(await slotNamespaces(slot), []);
  assert.equal(existsSync(`/sys/class/net/mv${slot}`), false);
});
