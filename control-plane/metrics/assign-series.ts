/** A client's series stay at least this long after its last sign of life (the metric contract). */
export const KEEP_SERIES_MS = 60 * 60_000;

export interface SeriesCandidate {
  readonly clientId: string;
  /** Whether it has series of its own; null: it is new and was never in any series. */
  readonly shown: boolean | null;
  readonly connected: boolean;
  /** Milliseconds since 1970. */
  readonly lastSeenMs: number;
}

export interface SeriesAssignment {
  /** Get series of their own from now on. */
  readonly show: readonly string[];
  /** Are counted under `_other` from now on. */
  readonly fold: readonly string[];
}

/**
 * Who gets series of its own when only `limit` clients can have them. Those that have them keep them, unless they are
 * gone for KEEP_SERIES_MS and the place is needed, or the limit was lowered; the rest is counted under `_other`.
 */
export function assignSeries(clients: readonly SeriesCandidate[], limit: number, nowMs: number): SeriesAssignment {
  const show: string[] = [];
  const fold: string[] = [];
  const isRecent = ({ connected, lastSeenMs }: SeriesCandidate) => connected || nowMs - lastSeenMs < KEEP_SERIES_MS;
  const shown = clients.filter((client) => client.shown === true).sort(byNeed);
  let room = limit - shown.length;
  // Least needed last, so that `pop` takes them first.
  while (room < 0) {
    const client = shown.pop();
    if (!client) break;
    fold.push(client.clientId);
    room++;
  }
  for (const client of clients.filter(wantsSeries).sort(byNeed)) {
    const least = shown.at(-1);
    if (room > 0) {
      room--;
      show.push(client.clientId);
    } else if (least && !isRecent(least) && isRecent(client)) {
      shown.pop();
      fold.push(least.clientId);
      show.push(client.clientId);
    } else if (client.shown === null) {
      fold.push(client.clientId);
    }
  }
  return { show, fold };
}

/** New clients, and folded ones that came back. */
function wantsSeries({ shown, connected }: SeriesCandidate): boolean {
  return shown === null || (!shown && connected);
}

function byNeed(a: SeriesCandidate, b: SeriesCandidate): number {
  if (a.connected !== b.connected) return a.connected ? -1 : 1;
  if (a.lastSeenMs !== b.lastSeenMs) return b.lastSeenMs - a.lastSeenMs;
  return a.clientId < b.clientId ? -1 : 1;
}
