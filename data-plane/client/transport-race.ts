/** What a tunnel runs over. */
export type Transport = 'http3' | 'http2';
export type TransportChoice = 'auto' | Transport;

/** How a choice is written in configuration. */
export const transportChoice = {
  expected: 'auto, http3 or http2',
  parse: (value: string): TransportChoice | undefined =>
    value === 'auto' || value === 'http3' || value === 'http2' ? value : undefined,
};

/**
 * Milliseconds by which HTTP/3 is ahead of HTTP/2 (ours). RFC 8305 has 250 ms, for pages that are loaded in a second; a tunnel stays on what
 * won for hours, and TCP within TCP is the worse one on a link that loses packets. HTTP/3 shall win there too: when its first packets are
 * lost they are sent again after 1 s (RFC 9002 6.2.2). On a slow link without loss it is ahead anyway, with two round trips against
 * three. Where UDP is blocked, a tunnel opens this much later.
 */
export const HEAD_START_MS = 1_000;

type Runner =
  | { readonly state: 'waiting' | 'running' | 'unused' }
  | { readonly state: 'failed'; readonly reason: string };

export type Race =
  | { readonly state: 'open'; readonly runners: Readonly<Record<Transport, Runner>> }
  | { readonly state: 'won'; readonly by: Transport }
  | { readonly state: 'lost' };

export type RaceEvent =
  | { readonly type: 'headStartOver' }
  /** It could send the request now. */
  | { readonly type: 'ready'; readonly transport: Transport }
  | { readonly type: 'failed'; readonly transport: Transport; readonly reason: string };

export type RaceAction =
  | { readonly type: 'start'; readonly transport: Transport }
  /** The winner, and nobody else, sends the request. */
  | { readonly type: 'request'; readonly transport: Transport }
  | { readonly type: 'close'; readonly transport: Transport }
  | { readonly type: 'giveUp'; readonly reason: string };

export interface RaceStep {
  readonly race: Race;
  /** To be taken in this order. */
  readonly actions: readonly RaceAction[];
}

export const TRANSPORT_NAMES = { http3: 'HTTP/3', http2: 'HTTP/2' } as const satisfies Record<Transport, string>;
const OTHER = { http3: 'http2', http2: 'http3' } as const satisfies Record<Transport, Transport>;
const UNUSED: Runner = { state: 'unused' };
const RUNNING: Runner = { state: 'running' };

/** The first step: with `auto` HTTP/3 starts, and HTTP/2 waits for the end of its head start. */
export function startRace(choice: TransportChoice): RaceStep {
  const first = choice === 'http2' ? 'http2' : 'http3';
  const other: Runner = choice === 'auto' ? { state: 'waiting' } : UNUSED;
  const runners = { [first]: RUNNING, [OTHER[first]]: other } as Record<Transport, Runner>;
  return { race: { state: 'open', runners }, actions: [{ type: 'start', transport: first }] };
}

/**
 * What follows from an event. The first that is ready wins, whatever becomes of its request, and the other is closed before it sends one: the node
 * never sees two. What comes from one that is not in the race (any more) changes nothing.
 */
export function advanceRace(race: Race, event: RaceEvent): RaceStep {
  if (race.state !== 'open') return unchanged(race);
  switch (event.type) {
    case 'headStartOver':
      return race.runners.http2.state === 'waiting' ? start(race.runners, 'http2') : unchanged(race);
    case 'ready':
      return race.runners[event.transport].state === 'running' ? win(race.runners, event.transport) : unchanged(race);
    case 'failed':
      if (race.runners[event.transport].state !== 'running') return unchanged(race);
      return fail({ ...race.runners, [event.transport]: { state: 'failed', reason: event.reason } }, event.transport);
    default:
      return event satisfies never;
  }
}

type Runners = Readonly<Record<Transport, Runner>>;

function unchanged(race: Race): RaceStep {
  return { race, actions: [] };
}

function start(runners: Runners, transport: Transport): RaceStep {
  const race: Race = { state: 'open', runners: { ...runners, [transport]: RUNNING } };
  return { race, actions: [{ type: 'start', transport }] };
}

function win(runners: Runners, by: Transport): RaceStep {
  const loser = OTHER[by];
  const close: readonly RaceAction[] = runners[loser].state === 'running' ? [{ type: 'close', transport: loser }] : [];
  return { race: { state: 'won', by }, actions: [...close, { type: 'request', transport: by }] };
}

function fail(runners: Runners, transport: Transport): RaceStep {
  const other = OTHER[transport];
  switch (runners[other].state) {
    case 'waiting':
      return start(runners, other);
    case 'running':
      return { race: { state: 'open', runners }, actions: [] };
    case 'failed':
    case 'unused':
      return { race: { state: 'lost' }, actions: [{ type: 'giveUp', reason: reasonOf(runners) }] };
    default:
      return runners[other] satisfies never;
  }
}

/** Why there is no tunnel: of each that was tried, or of the only one. */
function reasonOf(runners: Runners): string {
  const failures = (['http3', 'http2'] as const).flatMap((transport) => {
    const runner = runners[transport];
    return runner.state === 'failed' ? [{ transport, reason: runner.reason }] : [];
  });
  if (failures.length === 1) return failures[0]?.reason ?? '';
  return failures.map(({ transport, reason }) => `${TRANSPORT_NAMES[transport]}: ${reason}`).join('; ');
}
