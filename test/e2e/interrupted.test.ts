import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ClusterFile } from '../../deploy/local/cluster-file.ts';
import { ip } from '../../deploy/local/ip-command.ts';
import { isAlive, type ProcessIdentity } from '../../deploy/local/process-identity.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { waitFor } from '../support/wait-for.ts';

const main = fileURLToPath(new URL('../../deploy/local/main.ts', import.meta.url));
const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 130],
  ['SIGKILL', null],
] as const) {
  test(`nothing is left of a cluster whose launcher gets ${signal}`, { skip }, async (t) => {
    const launcher = spawn(process.execPath, [main, '--once'], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => launcher.kill('SIGKILL'));
    const directory = await directoryOf(launcher.stdout);
    const cluster = JSON.parse(readFileSync(`${directory}/cluster.json`, 'utf8')) as ClusterFile;
    const namespaces = [...cluster.nodes, ...cluster.clients].map(({ netns }) => netns);
    const processes = recordedProcesses(namespaces[0] as string);
    // nats-server, Postgres, the control plane, and for each of two nodes and three clients at least one.
    assert.ok(processes.length >= 8 && processes.every(isAlive), JSON.stringify(processes));

    launcher.kill(signal);
    const [exitCode] = await once(launcher, 'exit');
    assert.equal(exitCode, code);
    // After a kill the janitor needs a moment; after a signal the launcher has done it all before it ends.
    const timeoutMs = signal === 'SIGKILL' ? 30_000 : 1_000;
    await waitFor(() => !existsSync(directory), { timeoutMs, what: 'the data to be gone' });
    assert.deepEqual(processes.filter(isAlive), []);
    const left = await ip('netns', 'list');
    for (const namespace of namespaces) assert.ok(!left.includes(namespace), left);
  });
}

/** The launcher's data directory, once the cluster is up. */
async function directoryOf(output: NodeJS.ReadableStream): Promise<string> {
  for await (const line of createInterface({ input: output })) {
    const directory = /data in (.*)\)$/.exec(line)?.[1];
    if (directory !== undefined) {
      output.resume();
      return directory;
    }
  }
  throw new Error('the launcher ended before the cluster was up');
}

/** What the launcher has noted of its slot, which is the number in the names of its namespaces. */
function recordedProcesses(namespace: string): ProcessIdentity[] {
  const slot = /^mv(\d+)-/.exec(namespace)?.[1];
  const record = JSON.parse(readFileSync(`/run/masque-vpn/${slot}.json`, 'utf8')) as { processes: ProcessIdentity[] };
  return record.processes;
}
