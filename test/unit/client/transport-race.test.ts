import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  advanceRace,
  type RaceAction,
  type RaceEvent,
  startRace,
  type Transport,
  type TransportChoice,
} from '../../../data-plane/client/transport-race.ts';

/** Runs a race through events; what it asked for, a line an action. */
function run(choice: TransportChoice, events: readonly RaceEvent[]): string[] {
  let { race, actions } = startRace(choice);
  const taken = [...actions];
  for (const event of events) {
    ({ race, actions } = advanceRace(race, event));
    taken.push(...actions);
  }
  return taken.map((action) => (action.type === 'giveUp' ? action.reason : `${action.type} ${action.transport}`));
}

const headStartOver: RaceEvent = { type: 'headStartOver' };
const ready = (transport: Transport): RaceEvent => ({ type: 'ready', transport });
const failed = (transport: Transport, reason: string): RaceEvent => ({ type: 'failed', transport, reason });

suite('the race of HTTP/3 and HTTP/2', () => {
  test('HTTP/3 that is ready within its head start is alone', () => {
    assert.deepEqual(run('auto', [ready('http3'), headStartOver]), ['start http3', 'request http3']);
  });

  test('HTTP/2 starts after the head start, and the first that is ready closes the other', () => {
    const begin = ['start http3', 'start http2'];
    assert.deepEqual(run('auto', [headStartOver, ready('http2'), ready('http3')]), [
      ...begin,
      'close http3',
      'request http2',
    ]);
    assert.deepEqual(run('auto', [headStartOver, ready('http3'), ready('http2')]), [
      ...begin,
      'close http2',
      'request http3',
    ]);
  });

  test('HTTP/2 does not wait for the head start of an HTTP/3 that has failed', () => {
    const events: RaceEvent[] = [failed('http3', 'refused'), headStartOver, ready('http2')];
    assert.deepEqual(run('auto', events), ['start http3', 'start http2', 'request http2']);
  });

  test('HTTP/3 that is slow wins where HTTP/2 failed', () => {
    const events = [headStartOver, failed('http2', 'blocked'), ready('http3')];
    assert.deepEqual(run('auto', events), ['start http3', 'start http2', 'request http3']);
  });

  test('where both failed, both reasons are told', () => {
    const told = 'HTTP/3: silence; HTTP/2: refused';
    const [h3, h2] = [failed('http3', 'silence'), failed('http2', 'refused')];
    assert.equal(run('auto', [headStartOver, h2, h3]).at(-1), told);
    assert.equal(run('auto', [h3, h2]).at(-1), told);
  });

  test('a transport that was chosen is alone, and gives its own reason', () => {
    for (const choice of ['http3', 'http2'] as const) {
      const events: RaceEvent[] = [headStartOver, failed(choice, 'silence'), headStartOver];
      assert.deepEqual(run(choice, events), [`start ${choice}`, 'silence']);
      assert.deepEqual(run(choice, [headStartOver, ready(choice)]), [`start ${choice}`, `request ${choice}`]);
    }
  });
});

suite('in whatever order things happen', () => {
  const choice = fc.constantFrom<TransportChoice>('auto', 'http3', 'http2');
  /** How a transport would end its run, and how it might go on after that. */
  const course = fc.constantFrom<readonly ('ready' | 'failed')[]>(['ready'], ['failed'], ['ready', 'failed']);

  /** Plays a race in a world that does what it is told and where each that runs comes to an end; `order` picks what happens next. */
  function play(chosen: TransportChoice, courses: Record<Transport, readonly ('ready' | 'failed')[]>, order: number[]) {
    const pending: Record<Transport, ('ready' | 'failed')[]> = { http3: [], http2: [] };
    const actions: RaceAction[] = [];
    let headStartRuns = true;
    const take = (taken: readonly RaceAction[]) => {
      for (const action of taken) {
        actions.push(action);
        // A report that was on its way when it was closed comes nevertheless, so nothing is taken back here.
        if (action.type === 'start') pending[action.transport] = [...courses[action.transport]];
      }
    };
    const begun = startRace(chosen);
    let { race } = begun;
    take(begun.actions);
    for (let i = 0; ; i++) {
      const possible: RaceEvent[] = (['http3', 'http2'] as const).flatMap((transport) => {
        const [next] = pending[transport];
        return next === undefined
          ? []
          : [next === 'ready' ? ready(transport) : failed(transport, `${transport} failed`)];
      });
      if (headStartRuns) possible.push(headStartOver);
      const event: RaceEvent | undefined = possible[(order[i] ?? 0) % possible.length];
      if (event === undefined) return { race, actions };
      if (event.type === 'headStartOver') headStartRuns = false;
      else pending[event.transport].shift();
      const step = advanceRace(race, event);
      race = step.race;
      take(step.actions);
    }
  }

  test('there is one end: one request, or the reason why there is none; and the loser is closed before', () => {
    const world = fc.record({
      chosen: choice,
      courses: fc.record({ http3: course, http2: course }),
      order: fc.array(fc.nat(5), { minLength: 8, maxLength: 8 }),
    });
    fc.assert(
      fc.property(world, ({ chosen, courses, order }) => {
        const { race, actions } = play(chosen, courses, order);
        const of = (type: RaceAction['type']) => actions.filter((action) => action.type === type);
        assert.notEqual(race.state, 'open');
        assert.equal(of('request').length + of('giveUp').length, 1);
        const last = actions.at(-1);
        assert.ok(last?.type === 'request' || last?.type === 'giveUp', 'nothing follows the end');
        const started = of('start').map((action) => 'transport' in action && action.transport);
        assert.equal(new Set(started).size, started.length, 'each starts once');
        if (race.state !== 'won') return;
        assert.ok(last.type === 'request' && last.transport === race.by && started.includes(race.by));
        for (const action of of('close')) assert.ok('transport' in action && action.transport !== race.by);
        const failedBefore = courses[race.by === 'http3' ? 'http2' : 'http3'][0] === 'failed';
        if (started.length === 2 && !failedBefore) assert.equal(of('close').length, 1);
      }),
    );
  });

  test('events that make no sense lead to no second request, and nothing starts twice', () => {
    const event = fc.oneof(
      fc.constant(headStartOver),
      fc.constantFrom<Transport>('http3', 'http2').map(ready),
      fc.constantFrom<Transport>('http3', 'http2').map((transport) => failed(transport, 'why')),
    );
    fc.assert(
      fc.property(choice, fc.array(event, { maxLength: 12 }), (chosen, events) => {
        const lines = run(chosen, events);
        const requests = lines.filter((line) => line.startsWith('request '));
        const starts = lines.filter((line) => line.startsWith('start '));
        assert.ok(requests.length <= 1);
        assert.equal(new Set(starts).size, starts.length);
        for (const line of requests) assert.ok(starts.includes(line.replace('request', 'start')));
      }),
    );
  });
});
