import { randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { AddressBook, AddressesExhaustedError } from '../../../data-plane/address/address-book.ts';
import { BlockClient } from '../../../data-plane/address/block-client.ts';
import { BlockLeases } from '../../../data-plane/address/block-leases.ts';
import type { ShardBlock } from '../../../data-plane/address/shard-block.ts';
import type { Link } from '../../../data-plane/control-link/nats-link.ts';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { Spool } from '../../../data-plane/telemetry/spool.ts';
import type { NewEvent } from '../../../shared/events/envelope.ts';
import type { CloseReason } from '../../../shared/events/node-events.ts';
import { formatAddress } from '../../../shared/ip/address.ts';
import { formatPrefix, prefixContains } from '../../../shared/ip/prefix.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { type BlockNotice, blockNoticeMessage } from '../../../shared/nats/messages.ts';
import { RestModel } from './rest-model.ts';

/** Nothing happens by itself: the test says when a node looks. */
const NEVER_MS = 2 ** 31 - 1;
const BOOT_ID = 'boot';
const log = createLogger('ledger', 'silent');

/** What becomes of a node's requests: `deaf` is one whose answers are lost. */
export type LinkState = 'up' | 'cut' | 'deaf';

export interface OpenTunnel {
  readonly clientId: string;
  readonly addresses: readonly string[];
}

export interface LedgerNodeOptions {
  readonly id: string;
  readonly shards: number;
  /** How far its wall clock is ahead, milliseconds. */
  readonly skewMs: number;
  readonly now: () => number;
  /** Answers a block request. */
  readonly ask: (request: Uint8Array) => Promise<Uint8Array>;
  readonly onReleased: (clientId: string, addresses: readonly string[]) => void;
}

/** A block whose addresses are handed out, or were. */
export interface BlockInUse {
  readonly poolBlock: ShardBlock;
  /** By the node's books: addresses that are open or rest. */
  readonly used: bigint;
  readonly mayAssign: boolean;
}

/** What a process of a node has, and what is gone with it. */
interface Process {
  readonly database: NodeDatabase;
  readonly spool: Spool;
  readonly leases: BlockLeases;
  readonly book: AddressBook;
  readonly blocks: BlockClient;
  readonly open: Map<string, OpenTunnel>;
  /** Ends that are on their way to the disk. */
  readonly ends: Set<Promise<unknown>>;
  notify: (data: Uint8Array) => void;
}

/** The ledger's part of a node, of the real parts of the data plane; a process that can be killed, and a disk that can be lost. */
export class LedgerNode {
  readonly id: string;
  link: LinkState = 'up';
  readonly rest = new RestModel();
  private readonly options: LedgerNodeOptions;
  private readonly directory = join(tmpdir(), `ledger-node-${randomUUID()}`);
  private process: Process | undefined;

  constructor(options: LedgerNodeOptions) {
    this.options = options;
    this.id = options.id;
  }

  get isRunning(): boolean {
    return this.process !== undefined;
  }

  get open(): ReadonlyMap<string, OpenTunnel> {
    return this.process?.open ?? new Map();
  }

  /** Whether the node has the right to hand out and serve the address now, as it believes. */
  mayServe(address: Parameters<typeof formatAddress>[0]): boolean {
    const { leases } = this.running();
    return leases.held(this.options.now()).some(({ block }) => prefixContains(block, address));
  }

  /** The blocks that it believes to hold. */
  get blocks(): string[] {
    return (this.process?.leases.held(this.options.now()) ?? []).map(({ block }) => formatPrefix(block));
  }

  get blocksInUse(): BlockInUse[] {
    const { blocks, book, leases } = this.running();
    return blocks.blocks.map((poolBlock) => ({
      poolBlock,
      used: book.usedOf(poolBlock),
      mayAssign: leases.isAssignable(poolBlock.block, this.options.now()),
    }));
  }

  /** By family: what can be handed out, and what of it is free. */
  count(family: 4 | 6): { total: bigint; free: bigint } {
    return this.running().book.count(family);
  }

  async start(): Promise<void> {
    if (this.process !== undefined) return;
    const { id, shards, skewMs, now } = this.options;
    mkdirSync(this.directory, { recursive: true });
    const database = new NodeDatabase(this.directory);
    const spool = new Spool(database, { node: id, incarnation: randomBytes(16).toString('hex') });
    const leases = new BlockLeases();
    const wallClock = () => now() + skewMs;
    const book = new AddressBook({
      now,
      wallClock,
      mayAssign: ({ block }) => leases.isAssignable(block, now()),
      stored: AddressBook.load(database.reader),
    });
    const blocks = new BlockClient({
      node: id,
      shards,
      link: this.makeLink(),
      database,
      leases,
      book,
      log,
      now,
      bootId: BOOT_ID,
      tickMs: NEVER_MS,
      onBlockGranted: ({ block }) => {
        if (this.process?.book === book) this.rest.blockInUse(block, now());
      },
      onBlockLost: (_held, connectionIds) => this.closeAll(connectionIds, 'error'),
      onBlockClosing: (connectionIds) => this.closeAll(connectionIds, 'drained'),
    });
    this.process = { database, spool, leases, book, blocks, open: new Map(), ends: new Set(), notify: () => undefined };
    this.rest.started();
    const data = { softwareVersion: 'test', listen: '0.0.0.0:4433', tunnelMtu: 1400 };
    await spool.append([{ type: 'node.started', at: this.at(), data }]);
    await blocks.start();
    await this.look();
  }

  /** Ends what has ended, asks for what is due. */
  async look(): Promise<void> {
    const { process } = this;
    if (process === undefined) return;
    await process.blocks.look();
    await Promise.all(process.ends);
  }

  /** Opens a tunnel for the client; undefined where no address is to be had. */
  async connect(clientId: string, pool: string, shard: number): Promise<OpenTunnel | undefined> {
    const { book, blocks, spool, open, ends } = this.running();
    const connectionId = randomUUID();
    const request = { shard: shard % this.options.shards, pool, clientId, connectionId, families: [4, 6] as const };
    let change = assign(book, request);
    if (change === undefined) {
      await blocks.demand(request.shard, pool);
      change = assign(book, request);
    }
    if (change === undefined) return undefined;
    const tunnel = { clientId, addresses: change.addresses.map(({ address }) => formatAddress(address)) };
    open.set(connectionId, tunnel);
    this.rest.assigned(tunnel.addresses);
    const at = this.at();
    const remote = { remoteAddress: '192.0.2.7', remotePort: 4_000, transport: 'http3', tunnelMtu: 1400 } as const;
    const assigned = change.addresses.map(
      ({ address, block, pool: network }): NewEvent => ({
        type: 'address.assigned',
        at,
        data: {
          connectionId,
          clientId,
          address: formatAddress(address),
          block: formatPrefix(block),
          pool: formatPrefix(network),
        },
      }),
    );
    await spool.append(
      [{ type: 'connection.established', at, data: { connectionId, clientId, ...remote } }, ...assigned],
      change.save,
    );
    blocks.nudge();
    await Promise.all(ends);
    return tunnel;
  }

  async disconnect(n: number): Promise<void> {
    const { open, ends } = this.running();
    const connectionId = [...open.keys()][n % Math.max(1, open.size)];
    if (connectionId !== undefined) this.close(connectionId, 'client');
    await Promise.all(ends);
  }

  /** What the leader says of blocks that it wants back. */
  notify(notice: BlockNotice): void {
    if (this.link === 'up') this.process?.notify(blockNoticeMessage.encode(notice));
  }

  /** In order: tunnels first, then the blocks. */
  async stop(): Promise<void> {
    const { process } = this;
    if (process === undefined) return;
    this.closeAll([...process.open.keys()], 'drained');
    await Promise.all(process.ends);
    await process.blocks.giveBackAll();
    await process.spool.append([{ type: 'node.stopped', at: this.at(), data: { reason: 'asked to stop' } }]);
    this.end(process);
  }

  /** The process dies; with it its tunnels, of which the log does not hear. */
  crash(losesDisk: boolean): void {
    const { process } = this;
    if (process !== undefined) {
      for (const { clientId, addresses } of process.open.values()) {
        this.options.onReleased(clientId, addresses);
        this.rest.leftOpen(addresses);
      }
      process.blocks.stop();
      this.end(process);
    }
    if (losesDisk) this.remove();
  }

  /** Events that wait for their way to the log, as one message; undefined where there are none. */
  events(limit: number): Uint8Array | undefined {
    const { process } = this;
    if (process === undefined) return undefined;
    const { spool } = process;
    const events = spool.read(spool.appliedSeq + 1, spool.lastSeq, limit);
    return events.length === 0 ? undefined : Buffer.from(`[${events.map(({ json }) => json).join()}]`);
  }

  async applied(epoch: string, seq: number): Promise<void> {
    const spool = this.process?.spool;
    if (spool?.epoch === epoch) await spool.trim(seq);
  }

  /** Removes its disk. */
  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
    this.rest.lostDisk();
  }

  private end(process: Process): void {
    this.process = undefined;
    process.database.close();
  }

  private closeAll(connectionIds: readonly string[], reason: CloseReason): void {
    for (const connectionId of connectionIds) this.close(connectionId, reason);
  }

  private close(connectionId: string, reason: CloseReason): void {
    const { open, book, spool, ends } = this.running();
    const tunnel = open.get(connectionId);
    if (tunnel === undefined) return;
    open.delete(connectionId);
    const { clientId } = tunnel;
    const change = book.release(connectionId);
    this.options.onReleased(clientId, tunnel.addresses);
    this.rest.released(tunnel.addresses, this.options.now());
    const at = this.at();
    const released = change.addresses.map(
      ({ address, block, pool }): NewEvent => ({
        type: 'address.released',
        at,
        data: {
          connectionId,
          clientId,
          address: formatAddress(address),
          block: formatPrefix(block),
          pool: formatPrefix(pool),
          reason,
        },
      }),
    );
    const totals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
    const closed: NewEvent = {
      type: 'connection.closed',
      at,
      data: { connectionId, clientId, reason, detail: '', durationMs: 0, totals },
    };
    const end = spool.append([...released, closed], change.save).finally(() => ends.delete(end));
    ends.add(end);
  }

  private running(): Process {
    if (this.process === undefined) throw new Error(`${this.id} does not run`);
    return this.process;
  }

  private at(): string {
    return new Date(this.options.now() + this.options.skewMs).toISOString();
  }

  /** As much of NATS as blocks need. */
  private makeLink(): Link {
    const request = async (_subject: string, data: Uint8Array) => {
      const answer = await this.options.ask(data);
      if (this.link !== 'up') throw new Error('no answer');
      return { data: answer };
    };
    const subscribe = (_subject: string, { callback }: { callback: (error: null, message: object) => void }) => {
      const { process } = this;
      if (process !== undefined) process.notify = (data) => callback(null, { data });
      return { unsubscribe: () => undefined };
    };
    const connection = { request, subscribe } as unknown as NatsConnection;
    const isCut = () => this.link === 'cut';
    return {
      get connection() {
        return isCut() ? undefined : connection;
      },
      onUp: (listener) => {
        listener(connection);
        return () => undefined;
      },
      onDown: () => () => undefined,
    };
  }
}

function assign(book: AddressBook, request: Parameters<AddressBook['assign']>[0]) {
  try {
    return book.assign(request);
  } catch (error) {
    if (error instanceof AddressesExhaustedError) return undefined;
    throw error;
  }
}
