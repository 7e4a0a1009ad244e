import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { AddressBook, type AssignedAddress } from '../../data-plane/address/address-book.ts';
import { Admission, type TunnelRequest } from '../../data-plane/admission.ts';
import { HostnameError } from '../../data-plane/resolve-hostname.ts';
import {
  type StaticAddresses,
  StaticAddressUnavailableError,
  type StaticClaim,
} from '../../data-plane/static-addresses/static-addresses.ts';
import type { Spool } from '../../data-plane/telemetry/spool.ts';
import { SpoolFullError } from '../../data-plane/telemetry/spool.ts';
import type { EventData, NewEvent, VpnEvent } from '../../shared/events/envelope.ts';
import { validateEvent } from '../../shared/events/envelope.ts';
import { parseAddress } from '../../shared/ip/address.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import { hostPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { createLogger } from '../../shared/log/logger.ts';

const v4 = { shard: 0, poolName: DEFAULT_POOL, pool: parsePrefix('10.99.0.0/24'), block: parsePrefix('10.99.0.0/29') };
const v6 = { shard: 0, poolName: DEFAULT_POOL, pool: parsePrefix('fd00:99::/64'), block: parsePrefix('fd00:99::/120') };
/** A /29 at the pool's start: less its network address and the node's. */
const CAPACITY = 6;

/** A spool in memory: what it accepted, and what it does next. */
class Disk implements Pick<Spool, 'append'> {
  readonly accepted: NewEvent[] = [];
  refuse: Error | undefined;
  /** Runs before an append is done, as if the disk took its time. */
  meanwhile: () => void = () => {};

  async append(events: readonly NewEvent[]): Promise<VpnEvent[]> {
    await Promise.resolve();
    this.meanwhile();
    if (this.refuse !== undefined) throw this.refuse;
    for (const event of events) {
      const envelope = { node: 'n', epoch: 'a'.repeat(32), seq: 1, incarnation: 'b'.repeat(32), version: 1, ...event };
      validateEvent(JSON.parse(JSON.stringify(envelope)));
    }
    this.accepted.push(...events);
    return [];
  }

  get types(): string[] {
    return this.accepted.map(({ type }) => type);
  }
}

/** Addresses that clients have of their own, of which the test says whether they are to be had. */
class Statics implements Pick<StaticAddresses, 'claim' | 'released'> {
  readonly freed: string[] = [];
  refuse: Error | undefined;
  /** Runs before the addresses are there. */
  meanwhile: (claim: StaticClaim) => void = () => {};

  async claim(claim: StaticClaim): Promise<AssignedAddress[]> {
    await Promise.resolve();
    this.meanwhile(claim);
    if (this.refuse !== undefined) throw this.refuse;
    return claim.addresses.map((address) => {
      return { address, block: hostPrefix(address), pool: address.family === 4 ? v4.pool : v6.pool };
    });
  }

  released(connectionId: string): void {
    this.freed.push(connectionId);
  }
}

function setup(maxTunnelsPerClient = 100) {
  const disk = new Disk();
  const tokens = new Map([
    ['token-a', 'client-a'],
    ['token-b', 'client-b'],
  ]);
  const book = new AddressBook({ now: () => 0, mayAssign: () => true });
  book.addBlock(v4);
  book.addBlock(v6);
  const credentials = { known: true };
  const own = new Map<string, string[]>();
  const statics = new Statics();
  const more: { addresses(shard: number, pool: string, families: readonly number[]): Promise<string | undefined> } = {
    addresses: async () => undefined,
  };
  const nodeAddresses = new Map(
    [4, 6].map((family) => [family, parseAddress(family === 4 ? '10.99.0.1' : 'fd00:99::1')]),
  );
  const names: { resolve(hostname: string): Promise<string[]> } = { resolve: async () => ['192.0.2.1'] };
  const admission = new Admission({
    canAuthenticate: () => credentials.known,
    authenticate: (token) => {
      const clientId = tokens.get(token);
      if (clientId === undefined) return undefined;
      const addresses = (own.get(clientId) ?? []).map(parseAddress);
      return { clientId, pool: clientId === 'client-o' ? 'office' : DEFAULT_POOL, addresses };
    },
    book,
    moreAddresses: (shard, pool, families) => more.addresses(shard, pool, families),
    statics,
    nodeAddressIn: (_shard, family) => nodeAddresses.get(family),
    spool: disk,
    tunnelMtu: 1400,
    maxTunnelsPerClient,
    advertiseRoutes: ['0.0.0.0/0', '2001:db8::/32'].map(parsePrefix),
    resolve: (hostname) => names.resolve(hostname),
    log: createLogger('test', 'silent'),
  });
  let requestId = 0;
  const request = (token: string | null, scope: Partial<TunnelRequest> = {}): TunnelRequest => ({
    type: 'request',
    shard: 0,
    requestId: ++requestId,
    transport: 'http3',
    remoteAddress: '192.0.2.9',
    remotePort: 5,
    token,
    target: { kind: 'any' },
    protocol: 'any',
    ...scope,
  });
  const admit = async (token: string) => {
    const { answer } = await admission.decide(request(token));
    assert.equal(answer.type, 'accept');
    return answer as Extract<typeof answer, { type: 'accept' }>;
  };
  return { disk, tokens, own, statics, credentials, names, nodeAddresses, more, book, admission, request, admit };
}

const totals = { bytesIn: 1, bytesOut: 2, packetsIn: 3, packetsOut: 4 };
const end = (connectionId: string, clientId: string, detail = 'end of stream') =>
  ({ type: 'closed', connectionId, clientId, reason: 'client', detail, durationMs: 9, totals }) as const;

suite('admission', () => {
  test('a known token gets one address of each family, after their events are on disk', async () => {
    const { disk, admission, admit } = setup();
    const answer = await admit('token-a');
    assert.deepEqual(answer.addresses, [
      { address: '10.99.0.2', nodeAddress: '10.99.0.1' },
      { address: 'fd00:99::2', nodeAddress: 'fd00:99::1' },
    ]);
    assert.deepEqual(disk.types, ['connection.established', 'address.assigned', 'address.assigned']);
    assert.equal(admission.count('http3'), 1);
    assert.deepEqual(admission.connectionsOf('client-a'), [answer.connectionId]);
  });

  test('item 22 addresses that the client wishes for come with its request', async () => {
    const { admission, request } = setup();
    const { answer } = await admission.decide(request('token-a', { wishedAddresses: ['10.99.0.5', 'fd00:99::77'] }));
    assert.deepEqual(answer.type === 'accept' && answer.addresses.map(({ address }) => address), [
      '10.99.0.5',
      'fd00:99::77',
    ]);
  });

  test('no token and a wrong one get 401, an auth failure, and leave no trace in the book', async () => {
    const { disk, admission, request } = setup();
    for (const token of [null, '', 'wrong', 'token-a ']) {
      const { answer, failure } = await admission.decide(request(token));
      assert.deepEqual([answer.type, failure?.status, failure?.errorType, failure?.count], ['reject', 401, 'auth', 1]);
      assert.equal(failure?.clientId, null);
      if (token) assert.ok(!failure?.reason.includes(token));
    }
    assert.deepEqual([disk.types, admission.count('http3')], [[], 0]);
  });

  test('a full spool answers 503 and keeps the address for others', async () => {
    const { disk, admission, book, request, admit } = setup();
    disk.refuse = new SpoolFullError(1, 1);
    for (let i = 0; i < 3 * CAPACITY; i++) {
      const { answer, failure } = await admission.decide(request('token-a'));
      assert.deepEqual([answer.type, failure?.status, failure?.errorType], ['reject', 503, 'connection']);
      assert.equal(failure?.clientId, 'client-a');
    }
    assert.equal(admission.count('http3'), 0);
    disk.refuse = undefined;
    await admit('token-a');
    assert.equal(book.count(4).free, BigInt(CAPACITY - 1));
  });

  test('a disk that breaks answers 503 too, and says so', async () => {
    const { disk, admission, request } = setup();
    disk.refuse = new Error('disk on fire');
    const { failure } = await admission.decide(request('token-a'));
    assert.deepEqual([failure?.status, failure?.reason], [503, 'the record cannot be written']);
  });

  test('when the addresses are spent the next one gets 503, also while all ask at once', async () => {
    const { admission, request } = setup();
    const answers = await Promise.all(Array.from({ length: CAPACITY + 2 }, () => admission.decide(request('token-b'))));
    const accepted = answers.flatMap(({ answer }) => (answer.type === 'accept' ? [answer] : []));
    assert.equal(accepted.length, CAPACITY);
    assert.equal(new Set(accepted.map(({ addresses }) => addresses[0]?.address)).size, CAPACITY);
    assert.deepEqual(answers.at(-1)?.failure?.status, 503);
  });

  test('one that finds no address waits for more of its shard, counted as a tunnel, and then gets one', async () => {
    const { admission, book, more, request } = setup(CAPACITY + 2);
    const asked: number[] = [];
    const { promise, resolve } = Promise.withResolvers<undefined>();
    more.addresses = (shard) => {
      asked.push(shard);
      return promise;
    };
    for (let i = 0; i < CAPACITY; i++) await admission.decide(request('token-a'));
    const waiting = [1, 2].map(() => admission.decide(request('token-a')));
    assert.equal((await admission.decide(request('token-a'))).failure?.status, 429);
    book.addBlock({ ...v4, block: parsePrefix('10.99.0.8/29') });
    resolve(undefined);
    const answers = await Promise.all(waiting);
    assert.deepEqual(
      answers.map(({ answer }) => answer.type === 'accept' && answer.addresses[0]?.address),
      ['10.99.0.9', '10.99.0.10'],
    );
    assert.deepEqual(asked, [0, 0]);
  });

  test('a client of a pool that has nothing for it is refused, and hears why', async () => {
    const { admission, book, more, request, tokens } = setup();
    book.addBlock({ ...v4, poolName: 'office', block: parsePrefix('10.98.0.0/29'), pool: parsePrefix('10.98.0.0/24') });
    tokens.set('token-o', 'client-o');
    const asked: [number, string][] = [];
    more.addresses = async (shard, pool) => {
      asked.push([shard, pool]);
      return `pool "${pool}" is retiring`;
    };
    const { answer } = await admission.decide(request('token-o'));
    assert.equal(answer.type === 'accept' && answer.addresses[0]?.address, '10.98.0.2');
    book.removeBlock({ block: parsePrefix('10.98.0.0/29'), pool: parsePrefix('10.98.0.0/24') });
    const { failure } = await admission.decide(request('token-o'));
    assert.deepEqual(
      [failure?.status, failure?.reason],
      [503, 'no address block is held now: pool "office" is retiring'],
    );
    assert.deepEqual(asked, [[0, 'office']]);
  });

  test('each shard has its own addresses, and the node knows which shard has a tunnel', async () => {
    const { admission, book, request } = setup();
    book.addBlock({ ...v4, block: parsePrefix('10.99.0.8/29'), shard: 1 });
    const answers = await Promise.all([0, 1].map((shard) => admission.decide(request('token-a', { shard }))));
    const accepted = answers.flatMap(({ answer }) => (answer.type === 'accept' ? [answer] : []));
    assert.deepEqual(
      accepted.map(({ connectionId, addresses }) => [admission.shardOf(connectionId), addresses[0]?.address]),
      [
        [0, '10.99.0.2'],
        [1, '10.99.0.9'],
      ],
    );
    assert.deepEqual([admission.sizeOf(0), admission.sizeOf(1), admission.count('http3')], [1, 1, 2]);
    await admission.closed(end(accepted[1]?.connectionId ?? '', 'client-a'));
    assert.deepEqual([admission.sizeOf(1), admission.shardOf(accepted[1]?.connectionId ?? '')], [0, undefined]);
  });

  test('a client that is revoked while its record is written gets no tunnel, and the record is ended', async () => {
    const { disk, tokens, admission, request } = setup();
    disk.meanwhile = () => {
      tokens.delete('token-a');
      // As the node does for each connection of a client that is revoked.
      for (const connectionId of admission.connectionsOf('client-a')) admission.cancel(connectionId, 'revoked');
    };
    const { answer, failure } = await admission.decide(request('token-a'));
    assert.deepEqual([answer.type, failure?.status, failure?.clientId], ['reject', 401, 'client-a']);
    assert.deepEqual(disk.types.slice(3), ['address.released', 'address.released', 'connection.closed']);
    assert.equal(admission.count('http3'), 0);
  });

  test('a client that has its share of tunnels gets 429, and others still get theirs', async () => {
    const { admission, admit, request } = setup(2);
    const { connectionId } = await admit('token-a');
    await admit('token-a');
    const { answer, failure } = await admission.decide(request('token-a'));
    assert.deepEqual([answer.type, failure?.status, failure?.errorType], ['reject', 429, 'connection']);
    await admission.closed(end(connectionId, 'client-a'));
    await admit('token-a');
  });

  test('an end is recorded once, with its reason, and gives the address back to its client', async () => {
    const { disk, admission, admit } = setup();
    const { connectionId, addresses } = await admit('token-a');
    await admission.closed(end(connectionId, 'client-a'));
    await admission.closed(end(connectionId, 'client-a'));
    assert.deepEqual(disk.types.slice(3), ['address.released', 'address.released', 'connection.closed']);
    const closed = disk.accepted.at(-1)?.data as EventData<'connection.closed'>;
    assert.deepEqual([closed.reason, closed.totals, closed.durationMs], ['client', totals, 9]);
    assert.equal(admission.count('http3'), 0);
    assert.deepEqual((await admit('token-a')).addresses, addresses);
  });

  test('whatever a peer gives as the reason of its end, the record can be stored', async () => {
    const { disk, admission, admit } = setup();
    for (const detail of ['x'.repeat(5_000), 'a\u0000b', '\ud800', '\u001b[31mred', '\u202e']) {
      const { connectionId } = await admit('token-a');
      await admission.closed(end(connectionId, 'client-a', detail));
      const closed = disk.accepted.at(-1)?.data as EventData<'connection.closed'>;
      assert.ok(closed.detail.length <= 1_000);
      // Postgres takes no NUL and no half of a surrogate pair in text, and a terminal should not be steered by a log.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      assert.doesNotMatch(closed.detail, /[\u0000-\u001f\u007f]/);
      assert.ok(closed.detail.isWellFormed());
    }
  });

  test('ends that the disk refuses are recorded when it is back, in order, and nobody is let in before', async () => {
    const { disk, admission, book, request, admit } = setup();
    const first = await admit('token-a');
    const second = await admit('token-b');
    disk.refuse = new SpoolFullError(1, 1);
    await admission.closed(end(first.connectionId, 'client-a'));
    await admission.closed(end(second.connectionId, 'client-b'));
    assert.equal(admission.count('http3'), 0);
    assert.deepEqual(book.release(first.connectionId).addresses, []);
    disk.refuse = undefined;
    const { failure } = await admission.decide(request('token-a'));
    assert.deepEqual([failure?.status, failure?.clientId], [503, 'client-a']);
    await admission.settle();
    const closed = disk.accepted.flatMap(({ type, data }) => (type === 'connection.closed' ? [data] : []));
    assert.deepEqual(
      closed.map(({ connectionId, totals: recorded }) => [connectionId, recorded]),
      [
        [first.connectionId, totals],
        [second.connectionId, totals],
      ],
    );
    await admit('token-a');
  });

  test('a node that does not know the credentials yet answers 503: the token may be good', async () => {
    const { credentials, admission, request, admit } = setup();
    credentials.known = false;
    const { failure } = await admission.decide(request('token-a'));
    assert.deepEqual([failure?.status, failure?.errorType], [503, 'connection']);
    credentials.known = true;
    await admit('token-a');
  });

  test('a node that drains lets nobody in whose record is on its way, and ends the record', async () => {
    const { disk, admission, request } = setup();
    disk.meanwhile = () => admission.drain();
    const { answer, failure } = await admission.decide(request('token-a'));
    assert.deepEqual([answer.type, failure?.status], ['reject', 503]);
    const closed = disk.accepted.at(-1)?.data as EventData<'connection.closed'>;
    assert.equal(closed.reason, 'drained');
    const later = await admission.decide(request('token-b'));
    assert.equal(later.failure?.status, 503);
  });
});

suite('scoped requests', () => {
  const prefix = (text: string) => ({ target: { kind: 'prefix', prefix: parsePrefix(text) } }) as const;
  const hostname = { target: { kind: 'hostname', hostname: 'files.example' } } as const;

  test('9484-4.6 what was asked for is part of the answer, and addresses are of the families that it can use', async () => {
    const { admission, request } = setup();
    for (const [scope, targets, families] of [
      [{}, null, ['10.99.0.2', 'fd00:99::2']],
      [{ protocol: 6 }, null, ['10.99.0.3', 'fd00:99::3']],
      [prefix('192.0.2.0/24'), ['192.0.2.0/24'], ['10.99.0.4']],
      [prefix('2001:db8:1::/48'), ['2001:db8:1::/48'], ['fd00:99::4']],
    ] as const) {
      const { answer } = await admission.decide(request('token-a', scope));
      assert.ok(answer.type === 'accept');
      assert.deepEqual(answer.scope, { targets, protocol: 'any', ...('protocol' in scope ? scope : {}) });
      assert.deepEqual(
        answer.addresses.map(({ address }) => address),
        families,
      );
    }
  });

  test('item 28 a target that the node lets nobody reach: 502 with Proxy-Status, and no address is taken', async () => {
    const { admission, request, disk } = setup();
    const { answer, failure } = await admission.decide(request('token-a', prefix('2001:db9::/32')));
    assert.deepEqual(answer, { type: 'reject', requestId: 1, status: 502, proxyError: 'destination_ip_prohibited' });
    assert.deepEqual([failure?.errorType, failure?.clientId, disk.types], ['connection', 'client-a', []]);
  });

  test('item 12 a host name becomes its addresses before the answer leaves', async () => {
    const { admission, request, names } = setup();
    names.resolve = async (name) => (name === 'files.example' ? ['192.0.2.1', '192.0.2.1', '2001:db8::1'] : []);
    const { answer } = await admission.decide(request('token-a', { ...hostname, protocol: 17 }));
    assert.ok(answer.type === 'accept');
    assert.deepEqual(answer.scope, { targets: ['192.0.2.1/32', '192.0.2.1/32', '2001:db8::1/128'], protocol: 17 });
    assert.equal(answer.addresses.length, 2);
  });

  test('item 12 a name that cannot be resolved: 502 with dns_error', async () => {
    const { admission, request, names } = setup();
    names.resolve = async () => {
      throw new HostnameError('ENOTFOUND');
    };
    const { answer, failure } = await admission.decide(request('token-a', hostname));
    assert.deepEqual(answer, { type: 'reject', requestId: 1, status: 502, proxyError: 'dns_error' });
    assert.deepEqual([failure?.status, failure?.clientId], [502, 'client-a']);
    assert.equal(admission.count('http3'), 0);
  });

  test('names are resolved for clients only, counted as tunnels, and a token revoked meanwhile lets nobody in', async () => {
    const { admission, request, names, tokens } = setup(2);
    let asked = 0;
    const { promise, resolve } = Promise.withResolvers<string[]>();
    names.resolve = () => {
      asked++;
      return promise;
    };
    assert.equal((await admission.decide(request('wrong', hostname))).failure?.status, 401);
    assert.equal(asked, 0);
    const waiting = [1, 2].map(() => admission.decide(request('token-a', hostname)));
    assert.equal((await admission.decide(request('token-a', hostname))).failure?.status, 429);
    assert.equal((await admission.decide(request('token-a'))).failure?.status, 429);
    assert.equal((await admission.decide(request('token-b'))).answer.type, 'accept');
    tokens.delete('token-a');
    resolve(['192.0.2.1']);
    const statuses = (await Promise.all(waiting)).map(({ failure }) => failure?.status);
    assert.deepEqual([statuses, asked], [[401, 401], 2]);
    tokens.set('token-a', 'client-a');
    assert.equal((await admission.decide(request('token-a'))).answer.type, 'accept');
  });
});

suite('addresses of their own', () => {
  const addressesOf = (answer: { type: string; addresses?: readonly { address: string }[] }) =>
    answer.addresses?.map(({ address }) => address);

  test('a client gets its own address, and one that is free of the other family', async () => {
    const { own, admit, disk } = setup();
    own.set('client-a', ['fd00:99::c8:7']);
    assert.deepEqual(addressesOf(await admit('token-a')), ['10.99.0.2', 'fd00:99::c8:7']);
    const assigned = disk.accepted.flatMap((event) => (event.type === 'address.assigned' ? [event.data.block] : []));
    assert.deepEqual(assigned, ['10.99.0.0/29', 'fd00:99::c8:7/128']);
    own.set('client-b', ['10.99.200.7', 'fd00:99::c8:8']);
    assert.deepEqual((await admit('token-b')).addresses, [
      { address: '10.99.200.7', nodeAddress: '10.99.0.1' },
      { address: 'fd00:99::c8:8', nodeAddress: 'fd00:99::1' },
    ]);
  });

  test('without an address that is its own it gets no other one', async () => {
    const { own, statics, admission, request, book } = setup();
    own.set('client-a', ['10.99.200.7']);
    statics.refuse = new StaticAddressUnavailableError('10.99.200.7', 'node-b has it');
    const { failure } = await admission.decide(request('token-a'));
    assert.deepEqual([failure?.status, failure?.reason], [503, 'static address 10.99.200.7: node-b has it']);
    assert.equal(book.count(6).free, book.count(6).total);
    assert.equal(statics.freed.length, 1);
  });

  test('an address goes on to others when the end of its tunnel is on disk, not before', async () => {
    const { own, statics, admission, admit, disk } = setup();
    own.set('client-a', ['10.99.200.7']);
    const { connectionId } = await admit('token-a');
    disk.refuse = new SpoolFullError(1, 1);
    await admission.closed(end(connectionId, 'client-a'));
    assert.deepEqual(statics.freed, []);
    disk.refuse = undefined;
    await admission.settle();
    assert.deepEqual(statics.freed, [connectionId]);
    const released = disk.accepted.flatMap((event) => (event.type === 'address.released' ? [event.data.address] : []));
    assert.deepEqual(released, ['10.99.200.7', 'fd00:99::2']);
  });

  test('a tunnel that a newer one displaces before it is open leaves no record', async () => {
    const { own, statics, admission, request, disk } = setup();
    own.set('client-a', ['10.99.200.7']);
    statics.meanwhile = ({ connectionId }) => assert.ok(admission.cancel(connectionId, 'client'));
    const { failure } = await admission.decide(request('token-a'));
    assert.equal(failure?.status, 503);
    assert.deepEqual([disk.types, admission.size, statics.freed.length], [[], 0, 1]);
  });

  test('the first client of a pool waits for an address of the other family, beside its own', async () => {
    const { own, admission, request, book, more } = setup();
    book.removeBlock(v6);
    own.set('client-a', ['10.99.200.7']);
    const asked: unknown[] = [];
    more.addresses = async (...wanted) => {
      asked.push(wanted);
      book.addBlock(v6);
      return undefined;
    };
    const { answer } = await admission.decide(request('token-a'));
    assert.deepEqual(answer.type === 'accept' && addressesOf(answer), ['10.99.200.7', 'fd00:99::2']);
    assert.deepEqual(asked, [[0, DEFAULT_POOL, [6]]]);
  });

  test('where the node has no address of the family yet it asks for a block of the pool, to have one', async () => {
    const { own, admission, request, nodeAddresses, more, statics } = setup();
    own.set('client-a', ['10.99.200.7', 'fd00:99::c8:7']);
    nodeAddresses.delete(6);
    more.addresses = async () => 'pool "default" has no free IPv6 block';
    const { failure } = await admission.decide(request('token-a'));
    assert.deepEqual(
      [failure?.status, failure?.reason, statics.freed.length],
      [503, 'no free IPv6 address: pool "default" has no free IPv6 block', 1],
    );
    const asked: unknown[] = [];
    more.addresses = async (...wanted) => {
      asked.push(wanted);
      nodeAddresses.set(6, parseAddress('fd00:99::1'));
      return undefined;
    };
    const { answer } = await admission.decide(request('token-a'));
    assert.deepEqual(answer.type === 'accept' && addressesOf(answer), ['10.99.200.7', 'fd00:99::c8:7']);
    assert.deepEqual(asked, [[0, DEFAULT_POOL, [6]]]);
  });

  test('a pool without the other family is no reason to refuse a client with an address of its own', async () => {
    const { own, admission, request, book, more } = setup();
    book.removeBlock(v6);
    more.addresses = async () => 'pool "default" has no IPv6 addresses';
    own.set('client-a', ['10.99.200.7']);
    const { answer } = await admission.decide(request('token-a'));
    assert.deepEqual(answer.type === 'accept' && addressesOf(answer), ['10.99.200.7']);
  });
});
