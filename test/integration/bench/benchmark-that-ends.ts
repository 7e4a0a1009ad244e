import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runBenchmark } from '../../../bench/run-benchmark.ts';

/* A benchmark that leaves logs and data behind: with the argument `met`, `missed` or `broken` it ends so. */

await runBenchmark({
  name: 'bench:nothing',
  help: '',
  parse: ([end]) => ({ end, json: false }),
  keepsLogs: true,
  async measure({ end }, { directory, atEnd }) {
    mkdirSync(join(directory, 'server', 'data'), { recursive: true });
    writeFileSync(join(directory, 'server', 'data', 'table'), 'rows');
    // As a server does when it is stopped.
    atEnd(async () => writeFileSync(join(directory, 'server', 'server.log'), 'stopped'));
    if (end === 'broken') throw new Error('the test wants it');
    return { ok: end === 'met', bars: [] };
  },
  render: ({ ok }) => String(ok),
});
