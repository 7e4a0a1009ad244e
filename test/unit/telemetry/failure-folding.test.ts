import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ConnectionFailure, FailureFolding } from '../../../data-plane/telemetry/failure-folding.ts';

const AT = new Date('2026-01-01T00:00:00.000Z');

function failure(remoteAddress: string, status = 401): ConnectionFailure {
  const errorType = status === 401 || status === 403 ? 'auth' : 'connection';
  return { remoteAddress, clientId: null, status, reason: 'test', errorType };
}

test('ten failures a second of one address get an event each, the rest are counted in one', () => {
  const folding = new FailureFolding();
  const events = Array.from({ length: 25 }, () => folding.record(failure('192.0.2.1'), 0, AT));
  assert.equal(events.filter((event) => event !== undefined).length, 10);
  assert.deepEqual(
    folding.flush(1000, AT).map(({ data }) => data.count),
    [15],
  );
  assert.notEqual(folding.record(failure('192.0.2.1'), 1000, AT), undefined);
});

test('one /64 is one source, as is an IPv4 address in both its forms', () => {
  const folding = new FailureFolding();
  for (let i = 0; i < 10; i++) folding.record(failure(`2001:db8::${i}`), 0, AT);
  assert.equal(folding.record(failure('2001:db8::ffff'), 0, AT), undefined);
  assert.notEqual(folding.record(failure('2001:db8:0:1::1'), 0, AT), undefined);
  for (let i = 0; i < 10; i++) folding.record(failure('192.0.2.1'), 0, AT);
  assert.equal(folding.record(failure('::ffff:192.0.2.1'), 0, AT), undefined);
});

test('what is folded keeps its status and type of error', () => {
  const folding = new FailureFolding();
  for (let i = 0; i < 10; i++) folding.record(failure('192.0.2.1'), 0, AT);
  for (const status of [401, 404, 404, 0]) folding.record(failure('192.0.2.1', status), 0, AT);
  assert.deepEqual(
    folding.flush(1000, AT).map(({ data }) => [data.status, data.errorType, data.count]),
    [
      [401, 'auth', 1],
      [404, 'connection', 2],
      [0, 'connection', 1],
    ],
  );
});

test('no failure is lost and memory is bounded, whatever comes from however many addresses', () => {
  const step = fc.record({
    source: fc.nat(40),
    status: fc.constantFrom(0, 401, 404),
    ms: fc.nat(300),
    flush: fc.nat(9),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const folding = new FailureFolding(5);
      let [now, counted] = [0, 0];
      const take = (events: ReturnType<FailureFolding['flush']>) => {
        assert.ok(events.length <= 5 + 3);
        for (const { data } of events) counted += data.count;
      };
      for (const { source, status, ms, flush } of steps) {
        now += ms;
        const event = folding.record(failure(`192.0.2.${source}`, status), now, AT);
        if (event !== undefined && flush === 1) folding.putBack(event);
        else if (event !== undefined) counted++;
        if (flush === 0) take(folding.flush(now, AT));
      }
      take(folding.flush(now, AT));
      assert.equal(counted, steps.length);
    }),
  );
});
