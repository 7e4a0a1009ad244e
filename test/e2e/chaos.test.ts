import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ChaosCluster } from '../chaos/chaos-cluster.ts';
import { renderChaos } from '../chaos/chaos-report.ts';
import { runChaos } from '../chaos/run-chaos.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const SEEDS = [1, 2, 3];
const SECONDS = 20;

const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-chaos-'));
let chaos: ChaosCluster;

before(async () => {
  if (skip) return;
  chaos = await ChaosCluster.start({ directory: join(directory, 'cluster'), progress: () => undefined });
});

after(async () => {
  await chaos?.stop();
  rmSync(directory, { recursive: true, force: true });
});

for (const seed of SEEDS) {
  test(`${SECONDS} s of random faults, seed ${seed}: every event once, and all that must hold does`, {
    skip,
  }, async () => {
    const result = await runChaos(chaos, { seed, seconds: SECONDS, progress: () => undefined });
    assert.ok(result.ok, renderChaos(result));
  });
}
