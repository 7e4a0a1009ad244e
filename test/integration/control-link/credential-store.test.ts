import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { KV } from 'nats';
import { CredentialStore } from '../../../data-plane/credentials/credential-store.ts';
import { formatAddress } from '../../../shared/ip/address.ts';
import { type Credential, credentialMessage } from '../../../shared/nats/messages.ts';
import { CREDENTIALS_BUCKET } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { LinkSetup, log } from './link-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');

function write(
  kv: KV,
  clientId: string,
  version: number,
  state: Credential['state'] = 'active',
  addresses?: string[],
): Promise<number> {
  const tokenSha256 = createHash('sha256').update(`${clientId}-token`).digest('hex');
  const credential = { clientId, version, state, tokenSha256, updatedAt: '2026-01-01T00:00:00.000Z' };
  if (addresses !== undefined) Object.assign(credential, { addresses });
  return kv.put(clientId, credentialMessage.encode(credential));
}

function open(setup: LinkSetup) {
  const revoked: string[] = [];
  const owned: string[] = [];
  const { link, database } = setup;
  const store = new CredentialStore({
    link,
    database,
    log,
    onRevoked: (clientId) => revoked.push(clientId),
    onOwned: (clientId, addresses) => owned.push([clientId, ...addresses.map(formatAddress)].join(' ')),
  });
  store.start();
  setup.atEnd(() => store.stop());
  const knows = (clientId: string) => store.authenticate(`${clientId}-token`)?.clientId === clientId;
  return { store, revoked, owned, knows };
}

test('a bucket made after the start is found, followed through a restart of NATS, and kept on disk', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const node = open(setup);
  assert.equal(node.store.ready, false);
  const kv = await setup.control.jetstream().views.kv(CREDENTIALS_BUCKET, { history: 1 });
  await write(kv, 'alice', 1);
  await write(kv, 'bob.smith', 1);
  await waitFor(() => node.knows('alice') && node.knows('bob.smith'), { timeoutMs: 10_000, what: 'the clients' });
  const start = performance.now();
  await write(kv, 'alice', 2, 'revoked');
  await waitFor(() => node.revoked.includes('alice'), { timeoutMs: 2_000, intervalMs: 5, what: 'the revocation' });
  assert.ok(performance.now() - start < 1_000);
  assert.equal(node.knows('alice'), false);

  await setup.nats.kill();
  await waitFor(() => !setup.link.connected, { timeoutMs: 10_000, what: 'the loss of NATS to be noticed' });
  assert.ok(node.knows('bob.smith'));
  setup.nats = await setup.nats.restart();
  await waitFor(() => write(kv, 'carol', 1), { timeoutMs: 10_000, what: 'the bucket' });
  await waitFor(() => node.knows('carol'), { timeoutMs: 10_000, what: 'a client of after the restart' });

  await kv.delete('alice');
  await kv.purge('bob.smith');
  await write(kv, 'alice', 1);
  await waitFor(() => !node.knows('bob.smith'), { timeoutMs: 5_000, what: 'the deletion' });
  await write(kv, 'dave', 1);
  await waitFor(() => node.knows('dave'), { timeoutMs: 5_000, what: 'the last client' });
  assert.equal(node.knows('alice'), false);
  node.store.stop();
  await setup.nats.stop();
  setup.reopenDatabase();
  const again = open(setup);
  assert.deepEqual(['alice', 'bob.smith', 'carol', 'dave'].map(again.knows), [false, false, true, true]);
  assert.equal(again.store.ready, true);
});

test('what was revoked while the node was away is reported when it is back', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const kv = await setup.control.jetstream().views.kv(CREDENTIALS_BUCKET, { history: 1 });
  await write(kv, 'alice', 1);
  const first = open(setup);
  await waitFor(() => first.knows('alice'), { timeoutMs: 10_000, what: 'the client' });
  first.store.stop();
  await write(kv, 'alice', 2, 'revoked');
  setup.reopenDatabase();
  const second = open(setup);
  await waitFor(() => second.revoked.length > 0, { timeoutMs: 10_000, what: 'the revocation' });
  assert.equal(second.knows('alice'), false);
});

test('unreadable entries and entries under a foreign key change nothing', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const kv = await setup.control.jetstream().views.kv(CREDENTIALS_BUCKET, { history: 1 });
  await kv.put('broken', Buffer.from('{'));
  const tokenSha256 = createHash('sha256').update('mallory-token').digest('hex');
  const foreign: Credential = {
    clientId: 'mallory',
    version: 9,
    state: 'active',
    tokenSha256,
    updatedAt: '2026-01-01T00:00:00.000Z',
  };
  await kv.put('alice', credentialMessage.encode(foreign));
  await write(kv, 'bob', 1);
  const node = open(setup);
  await waitFor(() => node.knows('bob'), { timeoutMs: 10_000, what: 'the good entry' });
  assert.equal(node.knows('mallory'), false);
});

test('addresses of a client are told when they change, and kept on disk', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const kv = await setup.control.jetstream().views.kv(CREDENTIALS_BUCKET, { history: 1 });
  const first = open(setup);
  await write(kv, 'alice', 1, 'active', ['10.99.200.7', 'fd00:99::c8:7']);
  await waitFor(() => first.owned.length > 0, { timeoutMs: 10_000, what: 'the addresses' });
  await write(kv, 'alice', 2, 'active', ['10.99.200.8']);
  await waitFor(() => first.owned.length > 1, { timeoutMs: 10_000, what: 'the other address' });
  assert.deepEqual(first.owned, ['alice 10.99.200.7 fd00:99::c8:7', 'alice 10.99.200.8']);
  await write(kv, 'bob', 1, 'active', ['10.99.200.9']);
  await write(kv, 'bob', 2, 'revoked', ['10.99.200.9']);
  await waitFor(() => first.revoked.length > 0, { timeoutMs: 10_000, what: 'the revocation' });
  assert.equal(first.owned.at(-1), 'bob', 'a client that is revoked has none');
  first.store.stop();
  setup.reopenDatabase();
  const second = open(setup);
  assert.deepEqual(second.store.authenticate('alice-token')?.addresses.map(formatAddress), ['10.99.200.8']);
});
