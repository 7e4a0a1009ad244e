import {
  discardRebuild,
  REBUILD_SCHEMA,
  type RebuildReport,
  rebuildProjections,
} from '../rebuild/rebuild-projections.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { count, duration } from './progress-line.ts';

export async function rebuildCommand(
  { discard }: { readonly discard: boolean },
  { database, by, onProgress, signal }: CommandContext,
): Promise<CommandResult> {
  if (discard) {
    const discarded = await discardRebuild(database);
    const text = discarded ? `schema "${REBUILD_SCHEMA}" is dropped` : 'there was nothing to discard';
    return { ok: true, text, json: { discarded } };
  }
  const report = await rebuildProjections(database, by, { onProgress, signal });
  return { ok: true, text: describe(report), json: { ...report } };
}

function describe({ from, position, resumed, events, records, replaySeconds, switchSeconds }: RebuildReport): string {
  const begin = resumed
    ? `gone on behind position ${from}`
    : from === 0
      ? 'from the beginning'
      : `from the snapshot at ${from}`;
  const rate = replaySeconds > 0 ? `, ${count(records / replaySeconds)} records/s` : '';
  return [
    `rebuilt up to position ${position}, ${begin}: ${count(events)} events, ${count(records)} records in`,
    `${duration(replaySeconds)}${rate}; the live projection waited ${switchSeconds.toFixed(2)} s for the switch`,
  ].join(' ');
}
