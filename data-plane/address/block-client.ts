import { randomBytes } from 'node:crypto';
import { describeError } from '../../shared/errors.ts';
import type { AddressFamily } from '../../shared/ip/address.ts';
import type { PoolBlock } from '../../shared/ip/block.ts';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  type BlockLease,
  type BlockReply,
  type BlockRequest,
  blockReplyMessage,
  blockRequestMessage,
  blockRequestSubject,
} from '../../shared/nats/messages.ts';
import type { Link } from '../control-link/nats-link.ts';
import type { NodeDatabase } from '../state/node-database.ts';
import type { AddressBook } from './address-book.ts';
import { type AcquireRefusal, type BlockLeases, type Lease, needsMore } from './block-leases.ts';
import { deleteLease, restoreLeases, saveLease } from './block-store.ts';
import { monotonicMs, readBootId } from './boot-clock.ts';

/** Ours: how often leases and free addresses are looked at, milliseconds. */
const TICK_MS = 1_000;
const REQUEST_TIMEOUT_MS = 5_000;
const FAMILIES: readonly AddressFamily[] = [4, 6];
/** Ours: a bound for one round; the next follows a second later. */
const MAX_ACQUIRES_PER_ROUND = 16;

export interface BlockClientOptions {
  readonly node: string;
  readonly link: Link;
  readonly database: NodeDatabase;
  readonly leases: BlockLeases;
  readonly book: AddressBook;
  readonly log: Logger;
  /** Addresses and routes are set up here. The block is used after it; when it throws it is called again a second later. */
  readonly onBlockGranted: (poolBlock: PoolBlock) => void | Promise<void>;
  /** The lease has ended: these connections have addresses of the block and must be closed at once. */
  readonly onBlockLost: (poolBlock: PoolBlock, connectionIds: readonly string[]) => void;
  readonly now?: () => number;
  readonly bootId?: string;
}

/** Gets address blocks from the control plane, keeps their leases alive, and ends their use in time when it cannot. */
export class BlockClient {
  readonly #options: BlockClientOptions;
  readonly #now: () => number;
  readonly #bootId: string;
  /** The blocks that are in use. */
  readonly #announced = new Map<string, PoolBlock>();
  readonly #announcing = new Set<string>();
  /** What could not be set up, and why: said once, tried every second. */
  readonly #problems = new Map<string, string>();
  /** A request that got no answer is repeated under its id; its lease counts from the first time. */
  readonly #open = new Map<AddressFamily, { readonly requestId: string; readonly sentAt: number }>();
  #timer: NodeJS.Timeout | undefined;
  #asking = false;
  #stopLink: (() => void) | undefined;

  constructor(options: BlockClientOptions) {
    this.#options = options;
    this.#now = options.now ?? monotonicMs;
    this.#bootId = options.bootId ?? readBootId();
  }

  /** The blocks that are set up and leased. */
  get blocks(): PoolBlock[] {
    return [...this.#announced.values()];
  }

  /** Resolves when the blocks that an earlier process left and that are still leased are in use. */
  async start(): Promise<void> {
    const { database, leases, link } = this.#options;
    restoreLeases(database.reader, leases, this.#bootId);
    await this.#reconcile();
    this.#timer = setInterval(() => void this.#tick(), TICK_MS);
    this.#stopLink = link.onUp(() => {
      leases.reachable();
      void this.#tick();
    });
  }

  /** Looks at once whether more addresses are needed; for after an assignment. */
  nudge(): void {
    if (!this.#asking && FAMILIES.some((family) => this.#wants(family))) void this.#tick();
  }

  /** Blocks stay leased: a restarted node goes on with them. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stopLink?.();
  }

  async #tick(): Promise<void> {
    try {
      await this.#reconcile();
      if (this.#asking || this.#timer === undefined || this.#options.link.connection === undefined) return;
      this.#asking = true;
      try {
        if ((await this.#renew()) && (await this.#acquireAll())) await this.#reconcile();
      } finally {
        this.#asking = false;
      }
    } catch (error) {
      this.#options.log.error({ err: error }, 'address blocks cannot be kept');
    }
  }

  /** Brings what is in use in line with what is leased. What has ended goes first, and never waits for anything. */
  async #reconcile(): Promise<void> {
    const held = new Map(this.#options.leases.held(this.#now()).map((lease) => [formatPrefix(lease.block), lease]));
    for (const [block, poolBlock] of this.#announced) if (!held.has(block)) this.#withdraw(block, poolBlock);
    for (const [block, poolBlock] of held) {
      if (!this.#announced.has(block) && !this.#announcing.has(block)) await this.#announce(block, poolBlock);
    }
  }

  #withdraw(block: string, poolBlock: PoolBlock): void {
    this.#announced.delete(block);
    this.#problems.delete(block);
    const connections = this.#options.book.removeBlock(poolBlock);
    this.#options.log.warn({ block, connections: connections.length }, 'the lease of an address block has ended');
    this.#options.onBlockLost(poolBlock, connections);
  }

  async #announce(block: string, poolBlock: PoolBlock): Promise<void> {
    this.#announcing.add(block);
    try {
      await this.#options.onBlockGranted(poolBlock);
      this.#announced.set(block, poolBlock);
      this.#options.book.addBlock(poolBlock);
      this.#problems.delete(block);
      this.#options.log.info({ block }, 'address block in use');
    } catch (error) {
      const problem = describeError(error);
      if (this.#problems.get(block) !== problem) {
        this.#options.log.error({ err: error, block }, 'an address block cannot be set up, trying again');
      }
      this.#problems.set(block, problem);
    } finally {
      this.#announcing.delete(block);
    }
  }

  /** Whether every block is accounted for, so that more may be asked for. */
  async #renew(): Promise<boolean> {
    const { node, leases, database } = this.#options;
    const blocks = leases.dueForRenewal(this.#now());
    if (blocks.length > 0) {
      const sentAt = this.#now();
      const reply = await this.#request({ op: 'renew', node, blocks });
      if (!reply.ok) {
        leases.renewalFailed(this.#now());
      } else {
        leases.renewalSucceeded();
        await this.#store(reply.leases.map((lease) => this.#leased(lease, sentAt)));
        const renewed = new Set(reply.leases.map(({ block }) => canonical(block)));
        const lost = new Set(reply.lost.map(canonical));
        const held = new Set(leases.held(this.#now()).map(({ block }) => formatPrefix(block)));
        // A block that is named in neither list is given up only when its lease has ended here as well.
        const gone = blocks.filter((block) => !renewed.has(block) && (lost.has(block) || !held.has(block)));
        for (const block of gone) leases.lost(block);
        await database.commit((db) => {
          for (const block of gone) deleteLease(db, block);
        });
        await this.#reconcile();
      }
    }
    return leases.held(this.#now()).length === leases.all().length;
  }

  async #acquireAll(): Promise<boolean> {
    let granted = false;
    for (const family of FAMILIES) {
      for (let i = 0; i < MAX_ACQUIRES_PER_ROUND && this.#wants(family) && (await this.#acquire(family)); i++) {
        granted = true;
        // Only a block that is in use counts.
        await this.#reconcile();
      }
    }
    return granted;
  }

  #wants(family: AddressFamily): boolean {
    const { book, leases } = this.#options;
    const now = this.#now();
    // One that is leased and not in use has room yet; to take another instead would empty the pool.
    const isOneToCome = leases
      .held(now)
      .some(({ block }) => block.address.family === family && !this.#announced.has(formatPrefix(block)));
    return !isOneToCome && needsMore(book.count(family)) && leases.mayAcquire(family, now);
  }

  async #acquire(family: AddressFamily): Promise<boolean> {
    const { node, leases, log } = this.#options;
    const open = this.#open.get(family) ?? { requestId: randomBytes(16).toString('hex'), sentAt: this.#now() };
    this.#open.set(family, open);
    const reply = await this.#request({ op: 'acquire', node, family, requestId: open.requestId });
    if (!reply.ok) {
      const refusal: AcquireRefusal =
        reply.code === 'exhausted' || reply.code === 'no_pool' ? reply.code : 'unavailable';
      if (refusal !== 'unavailable') this.#open.delete(family);
      if (refusal === 'exhausted') log.warn({ family }, 'no address block is free in any pool');
      leases.acquireFailed(family, refusal, this.#now());
      return false;
    }
    this.#open.delete(family);
    leases.acquireSucceeded(family);
    await this.#store(reply.leases.map((lease) => this.#leased(lease, open.sentAt)));
    return reply.leases.length > 0;
  }

  #leased({ block, pool, leaseSeconds }: BlockLease, sentAt: number): Lease {
    return this.#options.leases.leased(
      { pool: parsePrefix(pool), block: parsePrefix(block) },
      leaseSeconds * 1000,
      sentAt,
    );
  }

  async #store(leases: readonly Lease[]): Promise<void> {
    await this.#options.database.commit((db) => {
      for (const lease of leases) saveLease(db, lease, this.#bootId);
    });
  }

  async #request(request: BlockRequest): Promise<BlockReply> {
    const { link, log } = this.#options;
    try {
      const { connection } = link;
      if (connection === undefined) return { ok: false, code: 'unavailable', message: 'NATS is away' };
      const reply = await connection.request(blockRequestSubject(request.node), blockRequestMessage.encode(request), {
        timeout: REQUEST_TIMEOUT_MS,
      });
      const answer = blockReplyMessage.decode(reply.data);
      if (!answer.ok && answer.code === 'invalid')
        log.error({ request, reason: answer.message }, 'block request refused');
      return answer;
    } catch (error) {
      log.debug({ reason: describeError(error), op: request.op }, 'a block request was not answered');
      return { ok: false, code: 'unavailable', message: describeError(error) };
    }
  }
}

function canonical(prefix: string): string {
  return formatPrefix(parsePrefix(prefix));
}
