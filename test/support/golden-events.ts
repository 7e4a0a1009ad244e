import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeEvents, type EventEnvelope } from '../../shared/events/envelope.ts';

const DIRECTORY = join(import.meta.dirname, '../golden/events');

export interface GoldenEvent {
  /** `<type>.v<version>.json` */
  readonly file: string;
  readonly envelope: EventEnvelope;
}

/** One event of every version of every type that any build ever wrote, in the order of their times: one story. */
export function readGoldenEvents(): GoldenEvent[] {
  const files = readdirSync(DIRECTORY).map((file): GoldenEvent => {
    const [envelope] = decodeEvents(Buffer.from(`[${readFileSync(join(DIRECTORY, file), 'utf8')}]`));
    return { file, envelope: envelope! };
  });
  return files.sort((a, b) => Date.parse(a.envelope.at) - Date.parse(b.envelope.at));
}
