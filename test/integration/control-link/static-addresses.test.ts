import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { StaticAddresses } from '../../../data-plane/static-addresses/static-addresses.ts';
import { parseAddress } from '../../../shared/ip/address.ts';
import { type BlockNotice, blockNoticeMessage, blockNoticeSubject } from '../../../shared/nats/messages.ts';
import {
  STATIC_REQUEST_SUBJECTS,
  type StaticReply,
  type StaticRequest,
  staticReleaseMessage,
  staticReleaseSubject,
  staticReplyMessage,
  staticRequestMessage,
} from '../../../shared/nats/static-address-messages.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { LinkSetup, log } from './link-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const FOUR = parseAddress('10.99.200.7');
const SIX = parseAddress('fd00:99::c8:7');
const TIMEOUT_MS = 10_000;

/** Node `node-a`, whose tunnels end when they are told to, and a control plane that says what the test wants. */
class Setup {
  readonly requests: StaticRequest[] = [];
  readonly routes = new Set<string>();
  readonly open = new Set<string>();
  readonly closed: string[] = [];
  readonly statics: StaticAddresses;
  readonly link: LinkSetup;
  leaseSeconds = 3600;
  refusal: Extract<StaticReply, { ok: false }> | undefined;
  lost = false;
  silent = false;
  /** Ends are on disk at once, or when the test says so. */
  keepsEnds = false;
  now = 0;
  #grant = 0;

  private constructor(link: LinkSetup) {
    this.link = link;
    this.statics = new StaticAddresses({
      node: 'node-a',
      link: link.link,
      log,
      now: () => this.now,
      route: async (shard, block) => void this.routes.add(`${shard} ${block}`),
      unroute: (shard, block) => void this.routes.delete(`${shard} ${block}`),
      close: (connectionId, reason) => {
        if (!this.open.delete(connectionId)) return;
        this.closed.push(`${connectionId} ${reason}`);
        if (!this.keepsEnds) this.statics.released(connectionId);
      },
    });
    link.control.subscribe(STATIC_REQUEST_SUBJECTS, {
      callback: (_error, message) => {
        const request = staticRequestMessage.decode(message.data);
        this.requests.push(request);
        if (!this.silent) message.respond(staticReplyMessage.encode(this.#answer(request)));
      },
    });
    link.atEnd(() => void this.statics.stop());
    this.statics.start();
  }

  static async start(t: TestContext): Promise<Setup> {
    const setup = new Setup(await LinkSetup.start(t));
    await setup.link.control.flush();
    await waitFor(() => setup.link.link.connected, { timeoutMs: TIMEOUT_MS, what: 'NATS' });
    await setup.link.link.connection?.flush();
    return setup;
  }

  async claim(connectionId: string, options: { clientId?: string; shard?: number; addresses?: [typeof FOUR] } = {}) {
    const { clientId = 'alice', shard = 0, addresses = [FOUR] } = options;
    this.open.add(connectionId);
    try {
      return await this.statics.claim({ clientId, connectionId, shard, addresses });
    } catch (error) {
      this.open.delete(connectionId);
      throw error;
    }
  }

  ask(grant: number): void {
    this.link.control.publish(
      staticReleaseSubject('node-a'),
      staticReleaseMessage.encode({ address: '10.99.200.7', grant }),
    );
  }

  notice(notice: BlockNotice): void {
    this.link.control.publish(blockNoticeSubject('node-a'), blockNoticeMessage.encode(notice));
  }

  ops(op: StaticRequest['op']): StaticRequest[] {
    return this.requests.filter((request) => request.op === op);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    await waitFor(condition, { timeoutMs: TIMEOUT_MS, what });
  }

  #answer(request: StaticRequest): StaticReply {
    const lease = (address: string, grant: number) => {
      const pool = address.includes(':') ? 'fd00:99::/64' : '10.99.0.0/16';
      return { address, pool, grant, leaseSeconds: this.leaseSeconds };
    };
    switch (request.op) {
      case 'acquire':
        return this.refusal ?? { ok: true, leases: [lease(request.address, ++this.#grant)], lost: [] };
      case 'renew': {
        if (this.lost) return { ok: true, leases: [], lost: request.grants.map(({ address }) => address) };
        return { ok: true, leases: request.grants.map(({ address, grant }) => lease(address, grant)), lost: [] };
      }
      case 'return':
        return { ok: true, leases: [], lost: [] };
      default:
        return request satisfies never;
    }
  }
}

test('a client that comes gets its addresses, each as a block of its own that is routed to its shard', {
  skip,
}, async (t) => {
  const setup = await Setup.start(t);
  const got = await setup.statics.claim({ clientId: 'alice', connectionId: 'c1', shard: 1, addresses: [FOUR, SIX] });
  assert.deepEqual(
    got.map(({ address, block }) => [address, block.length]),
    [
      [FOUR, 32],
      [SIX, 128],
    ],
  );
  assert.deepEqual([...setup.routes].sort(), ['1 10.99.200.7/32', '1 fd00:99::c8:7/128']);
});

test('what the control plane refuses is not had, and says why', { skip }, async (t) => {
  const setup = await Setup.start(t);
  setup.refusal = { ok: false, code: 'held', message: 'node-b has it until later' };
  await assert.rejects(setup.claim('c1'), {
    code: 'STATIC_ADDRESS_UNAVAILABLE',
    message: /10.99.200.7: node-b has it/,
  });
  assert.equal(setup.statics.size, 0);
  assert.equal(setup.routes.size, 0);
});

test('the newest tunnel has the address: the older one is closed, and its end is on disk before', {
  skip,
}, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  setup.keepsEnds = true;
  let opened = false;
  const second = setup.claim('c2', { shard: 1 }).then(() => {
    opened = true;
  });
  await setup.until('the end of the older tunnel', () => setup.closed.length > 0);
  await setup.link.control.flush();
  assert.deepEqual(setup.closed, ['c1 client']);
  assert.equal(opened, false, 'its end is not on disk yet');
  setup.statics.released('c1');
  await second;
  assert.equal(setup.ops('acquire').length, 1, 'the hold is the same');
  assert.deepEqual([...setup.routes], ['1 10.99.200.7/32']);
});

test('a client that comes back within the lease has its address without the control plane', { skip }, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  setup.statics.released('c1');
  setup.silent = true;
  await setup.claim('c2');
  assert.equal(setup.ops('acquire').length, 1);
});

test('the control plane wants an address back: its tunnel ends, and the return follows when that is on disk', {
  skip,
}, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  setup.keepsEnds = true;
  setup.ask(1);
  await setup.until('the end of the tunnel', () => setup.closed.length > 0);
  await setup.link.control.flush();
  assert.equal(setup.ops('return').length, 0);
  setup.statics.released('c1');
  await setup.until('the return', () => setup.ops('return').length > 0);
  assert.deepEqual(setup.ops('return')[0], {
    op: 'return',
    node: 'node-a',
    grants: [{ address: '10.99.200.7', grant: 1 }],
  });
  assert.equal(setup.routes.size, 0);
});

test('an address of a pool that retires goes to no new tunnel, and back when its tunnel ends', { skip }, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  setup.notice({ draining: ['10.99.200.7/32', '10.99.3.0/26'], closing: [] });
  const refused = { code: 'STATIC_ADDRESS_UNAVAILABLE', message: /10.99.200.7: its pool is retiring/ };
  await setup.link.control.flush();
  await setup.link.link.connection?.flush();
  await assert.rejects(setup.claim('c2'), refused);
  assert.deepEqual(setup.closed, [], 'who has it keeps it');
  setup.statics.released('c1');
  await setup.until('the return', () => setup.ops('return').length > 0);
  assert.equal(setup.statics.size, 0);
});

test('the tunnel with an address of a pool that is closed ends at once, however long the lease is', {
  skip,
}, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  setup.notice({ draining: [], closing: ['10.99.200.7/32'] });
  await setup.until('the return', () => setup.ops('return').length > 0);
  assert.deepEqual(setup.closed, ['c1 drained']);
  assert.equal(setup.statics.size, 0);
  setup.notice({ draining: [], closing: ['10.99.200.7/32'] });
  await setup.link.control.flush();
  await setup.link.link.connection?.flush();
  assert.equal(setup.ops('return').length, 1);
});

test('a node that holds nothing says so, and one that was granted the address again keeps it', { skip }, async (t) => {
  const setup = await Setup.start(t);
  setup.ask(0);
  await setup.until('the return', () => setup.ops('return').length > 0);
  await setup.claim('c1');
  setup.ask(0);
  setup.ask(1);
  await setup.until('the return of the newer grant', () => setup.ops('return').length > 1);
  assert.deepEqual(
    setup.ops('return').map((request) => 'grants' in request && request.grants[0]?.grant),
    [0, 1],
  );
});

test('a lease is renewed while there is a tunnel, and given back some time after it', { skip }, async (t) => {
  const setup = await Setup.start(t);
  setup.leaseSeconds = 60;
  await setup.claim('c1');
  setup.now = 21_000;
  await setup.until('a renewal', () => setup.ops('renew').length > 0);
  setup.now = 70_000;
  await setup.until('another renewal', () => setup.ops('renew').length > 1);
  assert.deepEqual(setup.closed, []);
  setup.statics.released('c1');
  const renewals = setup.ops('renew').length;
  setup.now = 112_000;
  await setup.until('the return', () => setup.ops('return').length > 0);
  assert.equal(setup.ops('renew').length, renewals);
  assert.equal(setup.statics.size, 0);
});

test('without renewals the tunnel ends with the lease, by the clock of the node', { skip }, async (t) => {
  const setup = await Setup.start(t);
  setup.leaseSeconds = 60;
  await setup.claim('c1');
  setup.silent = true;
  setup.now = 59_999;
  await setup.until('a renewal that nobody answers', () => setup.ops('renew').length > 0);
  assert.deepEqual(setup.closed, []);
  setup.now = 60_000;
  await setup.until('the end', () => setup.closed.length > 0);
  assert.deepEqual(setup.closed, ['c1 error']);
  assert.equal(setup.routes.size, 0);
});

test('a renewal that says that an address is lost ends its tunnel', { skip }, async (t) => {
  const setup = await Setup.start(t);
  setup.leaseSeconds = 60;
  await setup.claim('c1');
  setup.lost = true;
  setup.now = 21_000;
  await setup.until('the end', () => setup.closed.length > 0);
  assert.equal(setup.statics.size, 0);
});

test('an address that is taken from its client ends its tunnel, one that it keeps does not', { skip }, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  setup.statics.owned('alice', [FOUR, SIX]);
  setup.statics.owned('bob', []);
  setup.statics.owned('alice', [SIX]);
  await setup.until('the return', () => setup.ops('return').length > 0);
  assert.deepEqual(setup.closed, ['c1 revoked']);
});

test('who gets the address of another client waits for the end of its tunnel', { skip }, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  await setup.claim('c2', { clientId: 'bob' });
  assert.deepEqual(setup.closed, ['c1 revoked']);
  assert.deepEqual(
    setup.requests.map(({ op }) => op),
    ['acquire', 'return', 'acquire'],
  );
});

test('without NATS who holds an address goes on and others are refused', { skip }, async (t) => {
  const setup = await Setup.start(t);
  await setup.claim('c1');
  await setup.link.nats.stop();
  await setup.until('the end of the connection', () => setup.link.link.connection === undefined);
  await assert.rejects(setup.claim('c2', { clientId: 'bob', addresses: [SIX] }), { message: /NATS is away/ });
  assert.deepEqual(setup.closed, []);
  setup.statics.released('c1');
  await setup.claim('c3');
});
