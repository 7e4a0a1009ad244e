import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { controlEventSchemas } from '../../../shared/events/control-events.ts';
import { type EventEnvelope, type EventType, type VpnEvent, validateEvent } from '../../../shared/events/envelope.ts';
import { currentVersion } from '../../../shared/events/event-versions.ts';
import { nodeEventSchemas } from '../../../shared/events/node-events.ts';
import { columnsOf, MAX_SAMPLES_PER_WINDOW, type TrafficSample } from '../../../shared/events/traffic-columns.ts';
import { readGoldenEvents } from '../../support/golden-events.ts';
import { samplesOf } from '../../support/samples-of.ts';

const golden = readGoldenEvents();
type OldWindow = { readonly connections: readonly TrafficSample[] };
const oldWindow = golden.find(({ file }) => file === 'traffic.sampled.v1.json')!.envelope;
const oldWindowOf = (connections: unknown): EventEnvelope => ({
  ...oldWindow,
  data: { ...oldWindow.data, connections },
});

suite('event versions', () => {
  test('every version of every type has a golden file, and there are no others', () => {
    const types = Object.keys({ ...nodeEventSchemas, ...controlEventSchemas }) as EventType[];
    const wanted = types.flatMap((type) =>
      Array.from({ length: currentVersion(type) }, (_, i) => `${type}.v${i + 1}.json`),
    );
    assert.deepEqual(golden.map(({ file }) => file).toSorted(), wanted.toSorted());
    for (const { file, envelope } of golden) assert.equal(file, `${envelope.type}.v${envelope.version}.json`);
  });

  test('each is read as the current version; one of the current version as it is', () => {
    for (const { file, envelope } of golden) {
      const event = validateEvent(envelope);
      assert.equal(event.version, currentVersion(event.type), file);
      if (envelope.version === event.version) assert.deepEqual(event, envelope, file);
      else assert.notDeepEqual(event.data, envelope.data, file);
    }
  });

  test('clients of before there were pools belong to the default one', () => {
    for (const { envelope } of golden.filter(({ file }) => /^client[.](enrolled|updated)[.]v1/.test(file))) {
      assert.deepEqual(validateEvent(envelope).data, { ...envelope.data, pool: 'default' });
    }
  });

  test('what was wrong in an old version is wrong in the current one', () => {
    const old = golden.find(({ file }) => file === 'client.enrolled.v1.json')!.envelope;
    assert.throws(() => validateEvent({ ...old, data: { clientId: 'ada' } }), /must have required properties/);
  });

  test('windows of before they had columns say the same in them', () => {
    const { connections, ...window } = oldWindow.data as unknown as OldWindow;
    const second = { ...connections[0]!, bytesIn: 7, rttMs: null, latencyMs: null, lossPercent: null };
    const { data } = validateEvent(oldWindowOf([connections[0]!, second])) as VpnEvent<'traffic.sampled'>;
    const { samples, ...rest } = data;
    assert.deepEqual(rest, window);
    assert.deepEqual(samplesOf({ samples }), [connections[0], second]);
    assert.deepEqual(columnsOf(samplesOf({ samples })), samples);
    const empty = validateEvent(oldWindowOf([])) as VpnEvent<'traffic.sampled'>;
    assert.deepEqual(samplesOf(empty.data), []);
  });

  test('a window that was wrong before it had columns is wrong with them, and its field is named', () => {
    const good = (oldWindow.data as unknown as OldWindow).connections[0]!;
    const { clientId, ...incomplete } = good;
    const cases: readonly (readonly [unknown, RegExp])[] = [
      ['none', /samples/],
      [undefined, /samples/],
      [[good, null, good], /connectionId/],
      [[good, {}], /connectionId/],
      [[good, incomplete], /clientId/],
      [[good, 'text'], /samples[/]0 /],
      [[{ ...good, more: 1 }], /samples[/]more /],
      [[JSON.parse(`{"__proto__":1,${JSON.stringify(good).slice(1)}`)], /samples[/]__proto__ /],
      [[{ ...good, latencyMs: { p50: 1, p95: 2 } }], /latencyMs/],
      [[{ ...good, latencyMs: { p50: 1, p95: 2, p99: 3, p100: 4 } }], /latencyMs/],
      [[{ ...good, latencyMs: 4 }], /latencyMs/],
      [[{ ...good, bytesIn: -1 }], /bytesIn/],
      [Array.from({ length: MAX_SAMPLES_PER_WINDOW + 1 }, () => good), /connectionId/],
    ];
    for (const [connections, why] of cases) {
      assert.throws(() => validateEvent(oldWindowOf(connections)), { code: 'INVALID_EVENT', message: why });
    }
  });

  test('columns of different lengths are no window', () => {
    const { file, envelope } = golden.find(({ file }) => file === 'traffic.sampled.v2.json')!;
    const { samples } = envelope.data as { samples: Record<string, unknown[]> };
    for (const name of Object.keys(samples)) {
      const longer = { ...samples, [name]: [...samples[name]!, samples[name]![0]] };
      const event = { ...envelope, data: { ...envelope.data, samples: longer } };
      assert.throws(() => validateEvent(event), /samples must have columns of one length/, `${file}: ${name}`);
    }
  });
});
