import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { controlEventSchemas } from '../../../shared/events/control-events.ts';
import { type EventType, validateEvent } from '../../../shared/events/envelope.ts';
import { currentVersion } from '../../../shared/events/event-versions.ts';
import { nodeEventSchemas } from '../../../shared/events/node-events.ts';
import { readGoldenEvents } from '../../support/golden-events.ts';

const golden = readGoldenEvents();

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
});
