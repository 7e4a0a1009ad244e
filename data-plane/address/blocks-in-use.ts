import { describeError } from '../../shared/errors.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { AddressBook } from './address-book.ts';
import type { ShardBlock } from './shard-block.ts';

export interface BlocksInUseOptions {
  readonly book: AddressBook;
  readonly log: Logger;
  /** Addresses and routes are set up here. The block is used after it; when it throws it is called again a second later. */
  readonly onBlockGranted: (held: ShardBlock) => void | Promise<void>;
  /** The shard has no right to the block any more: these connections have addresses of it and must be closed at once. */
  readonly onBlockLost: (held: ShardBlock, connectionIds: readonly string[]) => void;
}

/** The blocks that are set up, whose addresses are handed out. */
export class BlocksInUse {
  readonly #options: BlocksInUseOptions;
  readonly #inUse = new Map<string, ShardBlock>();
  /** Those that are being set up. */
  readonly #announcing = new Map<string, Promise<void>>();
  /** What could not be set up, and why: said once, tried every second. */
  readonly #problems = new Map<string, string>();

  constructor(options: BlocksInUseOptions) {
    this.#options = options;
  }

  get all(): ShardBlock[] {
    return [...this.#inUse.values()];
  }

  has(held: ShardBlock): boolean {
    return this.#inUse.has(formatPrefix(held.block));
  }

  /** Brings what is in use in line with what is leased. What has ended goes first, and never waits for anything. */
  async reconcile(leased: readonly ShardBlock[]): Promise<void> {
    const held = new Map(leased.map((shardBlock) => [formatPrefix(shardBlock.block), shardBlock]));
    for (const [block, ended] of this.#inUse) {
      if (held.has(block)) continue;
      const connections = this.withdraw(ended);
      this.#options.log.warn({ block, connections }, 'the lease of an address block has ended');
    }
    for (const [block, shardBlock] of held) {
      if (this.#inUse.has(block)) continue;
      await (this.#announcing.get(block) ?? this.#announce(block, shardBlock));
    }
  }

  /** Ends the use of a block at once, and answers how many connections that ends. */
  withdraw(held: ShardBlock): number {
    const block = formatPrefix(held.block);
    this.#inUse.delete(block);
    this.#problems.delete(block);
    const connections = this.#options.book.removeBlock(held);
    this.#options.onBlockLost(held, connections);
    return connections.length;
  }

  #announce(block: string, held: ShardBlock): Promise<void> {
    const announced = this.#setUp(block, held).finally(() => this.#announcing.delete(block));
    this.#announcing.set(block, announced);
    return announced;
  }

  async #setUp(block: string, held: ShardBlock): Promise<void> {
    const { log, book, onBlockGranted } = this.#options;
    const { shard } = held;
    try {
      await onBlockGranted(held);
      this.#inUse.set(block, held);
      book.addBlock(held);
      this.#problems.delete(block);
      log.info({ block, shard }, 'address block in use');
    } catch (error) {
      const problem = describeError(error);
      if (this.#problems.get(block) !== problem) {
        log.error({ err: error, block, shard }, 'an address block cannot be set up, trying again');
      }
      this.#problems.set(block, problem);
    }
  }
}
