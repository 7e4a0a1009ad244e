import { join } from 'node:path';
import { rebuildProjections } from '../../control-plane/rebuild/rebuild-projections.ts';
import { createDatabase, createPool } from '../../control-plane/storage/database.ts';
import { migrate } from '../../control-plane/storage/migrate.ts';
import { verifyProjections } from '../../control-plane/verify/verify-projections.ts';
import { startPostgres } from '../../deploy/local/postgres.ts';
import type { BenchContext } from '../bench-context.ts';
import { fillLog, GROUP } from './fill-log.ts';
import type { RebuildBenchOptions } from './options.ts';
import { type RebuildBenchReport, reportRebuild } from './report.ts';

export async function measureRebuild(
  { records: thousands }: RebuildBenchOptions,
  { directory, progress, signal, atEnd }: BenchContext,
): Promise<RebuildBenchReport> {
  const postgres = await startPostgres({ directory: join(directory, 'postgres') });
  atEnd(() => postgres.stop());
  const database = createDatabase(createPool(postgres.url, 'bench:rebuild', () => undefined));
  atEnd(() => database.destroy());
  await migrate(database);
  const groups = Math.ceil((thousands * 1_000) / GROUP.records);
  progress(`filling the log with ${groups * GROUP.events} events`);
  await fillLog(database, groups);
  signal.throwIfAborted();
  progress('rebuilding the projections');
  const by = { actor: 'bench:rebuild', incarnation: 'b'.repeat(32) };
  const begin = performance.now();
  const { events, records, replaySeconds, switchSeconds } = await rebuildProjections(database, by, { signal });
  const seconds = (performance.now() - begin) / 1_000;
  progress('verifying them');
  const verifyBegin = performance.now();
  const { differences } = await verifyProjections(database, { limit: 1, signal });
  const verifySeconds = (performance.now() - verifyBegin) / 1_000;
  return reportRebuild({ events, records, seconds, replaySeconds, switchSeconds, verifySeconds, differences });
}
