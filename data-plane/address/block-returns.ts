import type { NatsConnection, Subscription } from 'nats';
import { describeError } from '../../shared/errors.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import { canonicalPrefix, formatPrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { type BlockNotice, blockNoticeMessage, blockNoticeSubject } from '../../shared/nats/messages.ts';
import type { Link } from '../control-link/nats-link.ts';
import type { NodeDatabase } from '../state/node-database.ts';
import type { AddressBook } from './address-book.ts';
import type { BlockLeases } from './block-leases.ts';
import { deleteLease } from './block-store.ts';
import type { Supply } from './block-supply.ts';
import type { BlocksInUse } from './blocks-in-use.ts';
import { type BlockUse, chooseSurplus } from './choose-surplus.ts';
import { requestBlocks } from './request-blocks.ts';
import type { ShardBlock } from './shard-block.ts';

/** Ours: for how long a block must have been one too many before it is emptied. */
const SURPLUS_AFTER_MS = 10 * 60_000;

export interface BlockReturnsOptions {
  readonly node: string;
  readonly link: Link;
  readonly database: NodeDatabase;
  readonly leases: BlockLeases;
  readonly book: AddressBook;
  readonly inUse: BlocksInUse;
  readonly log: Logger;
  readonly now: () => number;
  /** A block of theirs is wanted back at once: these connections must be closed. */
  readonly onBlockClosing: (connectionIds: readonly string[]) => void;
}

/**
 * Gives blocks back that the control plane wants or the node can do without: first no more addresses of them are handed out, and when
 * nobody has one any more they go back.
 */
export class BlockReturns {
  readonly #options: BlockReturnsOptions;
  /** Given up here, and not known to have arrived there. Where a process forgets them, their leases end. */
  readonly #onTheirWay = new Set<string>();
  /** Since when a group of blocks has been one too many. */
  readonly #surplusSince = new Map<string, number>();
  #subscription: Subscription | undefined;

  constructor(options: BlockReturnsOptions) {
    this.#options = options;
  }

  /** Hears what the control plane wants back. */
  listen(connection: NatsConnection): void {
    this.#subscription?.unsubscribe();
    this.#subscription = connection.subscribe(blockNoticeSubject(this.#options.node), {
      callback: (error, message) => {
        if (error === null) this.#onNotice(message.data);
      },
    });
  }

  stop(): void {
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
  }

  /** A block that was to be given up, where the shard needs it after all: it is kept. False where there is none. */
  keepOne({ pool, family, shard }: Supply): boolean {
    const { inUse, leases } = this.#options;
    const isWanted = (held: ShardBlock) =>
      held.poolName === pool && held.block.address.family === family && held.shard === shard;
    const kept = inUse.all.find((held) => isWanted(held) && leases.drainOf(formatPrefix(held.block)) === 'surplus');
    if (kept === undefined) return false;
    leases.keep(formatPrefix(kept.block));
    return true;
  }

  /** Empties blocks that a shard has had no need of for a while, one at a time. */
  compact(): void {
    const { inUse, leases, book, log, now } = this.#options;
    const groups = Map.groupBy(inUse.all, (held) => `${held.poolName} ${held.block.address.family} ${held.shard}`);
    for (const group of this.#surplusSince.keys()) if (!groups.has(group)) this.#surplusSince.delete(group);
    for (const [group, blocks] of groups) {
      const isBusy = blocks.some(({ block }) => leases.drainOf(formatPrefix(block)) !== undefined);
      const uses = blocks.map((held): BlockUse => ({ held, used: book.usedOf(held) }));
      const surplus = isBusy ? undefined : chooseSurplus(uses, blocks[0]?.poolName !== DEFAULT_POOL);
      if (surplus === undefined) {
        this.#surplusSince.delete(group);
        continue;
      }
      const since = this.#surplusSince.get(group) ?? now();
      this.#surplusSince.set(group, since);
      if (now() - since < SURPLUS_AFTER_MS) continue;
      const block = formatPrefix(surplus.block);
      leases.drain(block, 'surplus');
      log.info(
        { block, shard: surplus.shard },
        'an address block is given up as soon as it is empty: the others suffice',
      );
    }
  }

  /** Gives back what is to be given up and empty, and what was given up and did not arrive. */
  async giveBack(): Promise<void> {
    const { leases } = this.#options;
    await this.#giveUp(this.#empty().filter(({ block }) => leases.drainOf(formatPrefix(block)) !== undefined));
  }

  /** Gives back everything in which nobody has an address; for a node that stops. */
  async giveBackAll(): Promise<void> {
    await this.#giveUp(this.#empty());
  }

  /** Blocks in which nobody has an address, those too that could not be set up. */
  #empty(): ShardBlock[] {
    const { inUse, leases, book, now } = this.#options;
    return leases.held(now()).filter((held) => !inUse.has(held) || book.isIdle(held));
  }

  async #giveUp(empty: readonly ShardBlock[]): Promise<void> {
    const { node, link, database, leases, inUse, log } = this.#options;
    for (const held of empty) {
      const block = formatPrefix(held.block);
      // Not a step between: from here on nobody gets an address of it.
      leases.lost(block);
      if (inUse.has(held)) inUse.withdraw(held);
      this.#onTheirWay.add(block);
    }
    if (empty.length > 0) {
      await database.commit((db) => {
        for (const { block } of empty) deleteLease(db, formatPrefix(block));
      });
    }
    if (this.#onTheirWay.size === 0 || link.connection === undefined) return;
    const blocks = [...this.#onTheirWay];
    const reply = await requestBlocks(link, { op: 'return', node, blocks }, log);
    if (!reply.ok) return;
    for (const block of blocks) this.#onTheirWay.delete(block);
    log.info({ blocks }, 'address blocks given back');
  }

  #onNotice(data: Uint8Array): void {
    const { inUse, leases, book, log, onBlockClosing } = this.#options;
    let notice: BlockNotice;
    try {
      notice = blockNoticeMessage.decode(data);
    } catch (error) {
      log.error({ reason: describeError(error) }, 'a notice about address blocks is unreadable');
      return;
    }
    const closing = new Set(notice.closing.map(canonicalPrefix));
    for (const block of [...notice.draining.map(canonicalPrefix), ...closing]) leases.drain(block, 'wanted_back');
    for (const held of inUse.all) {
      if (closing.has(formatPrefix(held.block))) onBlockClosing(book.connectionsIn(held));
    }
  }
}
