import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PresenceSender } from '../../../data-plane/control-link/presence.ts';
import { PRESENCE_SUBJECTS, type Presence, presenceMessage } from '../../../shared/nats/messages.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { LinkSetup, log } from './link-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');

test('presence is sent at once, again and again, and after a restart of NATS', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const seen: Presence[] = [];
  setup.control.subscribe(PRESENCE_SUBJECTS, {
    callback: (_error, message) => void seen.push(presenceMessage.decode(message.data)),
  });
  await setup.control.flush();
  const presence = { epoch: 'a'.repeat(32), incarnation: 'b'.repeat(32) };
  const sender = new PresenceSender({ node: 'node-a', link: setup.link, log, presence: () => presence });
  sender.start();
  setup.atEnd(() => sender.stop());
  await waitFor(() => seen.length >= 2, { timeoutMs: 5_000, what: 'two messages' });
  assert.deepEqual(seen[0], presence);
  await setup.nats.stop();
  const before = seen.length;
  setup.nats = await setup.nats.restart();
  await waitFor(() => seen.length > before, { timeoutMs: 10_000, what: 'presence after the restart' });
});
