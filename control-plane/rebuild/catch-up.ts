import { readNewestPosition } from '../log/read-newest-position.ts';
import type { Database } from '../storage/database.ts';
import type { OnProgress } from './progress.ts';
import type { ProjectionCopy } from './projection-copy.ts';
import { type ReplayedChunk, type ReplayOptions, replayLog } from './replay-log.ts';
import { addMissingIndexes } from './shadow-tables.ts';

/** With fewer events than this left (ours), the rest is projected while the live projection waits. */
const SMALL_REMAINDER = 500;

export interface CatchUp {
  readonly position: number;
  /** Projected in this run. */
  readonly events: number;
  readonly records: number;
  /** Of the replay alone. */
  readonly seconds: number;
}

/** Projects the log into a copy until hardly anything is left, with all of its indexes made. */
export async function catchUp(
  database: Database,
  { schema, definitions, position: from }: ProjectionCopy,
  onProgress: OnProgress,
  options: Pick<ReplayOptions, 'signal' | 'toleratesHoles'>,
): Promise<CatchUp> {
  const { signal } = options;
  let position = from;
  let events = 0;
  let records = 0;
  let ms = 0;
  const replay = async () => {
    // The live projection goes on meanwhile, so the end moves.
    for (;;) {
      const through = await readNewestPosition(database);
      if (position >= through) return;
      const isSmall = through - position < SMALL_REMAINDER;
      const onChunk = (chunk: ReplayedChunk) => {
        position = chunk.position;
        events += chunk.events;
        records += chunk.records;
        onProgress({ phase: 'replay', position, from, through, records });
      };
      onProgress({ phase: 'replay', position, from, through, records });
      const startedAt = performance.now();
      await replayLog(database, schema, position, { ...options, through, onChunk });
      ms += performance.now() - startedAt;
      if (isSmall) return;
    }
  };
  await replay();
  await addMissingIndexes(database, schema, definitions, (done) => {
    signal?.throwIfAborted();
    onProgress({ phase: 'index', done, tables: definitions.length });
  });
  await replay();
  return { position, events, records, seconds: ms / 1_000 };
}
