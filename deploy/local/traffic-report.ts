import { readIfPresent } from './secret-file.ts';

/** What a traffic driver saw so far, kept in its report file. */
export interface TrafficReport {
  /** All hosts once. */
  rounds: number;
  pingsSent: number;
  pingsAnswered: number;
  lastPingMs: number | null;
  readonly hosts: Record<string, HostDownloads>;
  lastError: string | null;
}

export interface HostDownloads {
  /** Begun: the sum of the next three and of one that is under way. */
  downloads: number;
  intact: number;
  /** Came to an end with the wrong hash or length. */
  corrupt: number;
  failed: number;
  bytes: number;
}

export function readTrafficReport(file: string): TrafficReport | undefined {
  const text = readIfPresent(file);
  return text === undefined ? undefined : (JSON.parse(text) as TrafficReport);
}
