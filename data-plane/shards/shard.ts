import { setTimeout as delay } from 'node:timers/promises';
import { CodedError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { PacketThread } from '../packet-thread/packet-thread.ts';
import type {
  ServerThreadCommand,
  ServerThreadOptions,
  ServerThreadReport,
  TunnelBlock,
} from '../tunnel/tunnel-messages.ts';

/** What concerns the whole node; the rest is between a shard and its thread. */
export type ShardReport = Extract<
  ServerThreadReport,
  { type: 'request' | 'failed' | 'closed' | 'channelAborted' | 'window' }
>;

export interface ShardOptions {
  readonly thread: ServerThreadOptions;
  readonly log: Logger;
  readonly onReport: (shard: number, report: ShardReport) => void;
  /** The thread has ended, and was not asked to. */
  readonly onFatal: (error: Error) => void;
}

const ENTRY = new URL('../tunnel/server-thread.ts', import.meta.url);

/** One packet thread, as the main thread sees it. */
export class Shard {
  readonly #number: number;
  readonly #options: ShardOptions;
  readonly #log: Logger;
  readonly #thread: PacketThread<ServerThreadCommand, ServerThreadReport>;
  /** Changes of blocks that the thread is making, by kind and block, and what waits for each. */
  readonly #changes = new Map<string, (problem: string | null) => void>();
  readonly #ready = Promise.withResolvers<string>();
  readonly #drained = Promise.withResolvers<void>();
  #state: 'starting' | 'ready' | 'draining' | 'failed' = 'starting';

  /** Starts the thread. */
  constructor(options: ShardOptions) {
    this.#number = options.thread.shard;
    this.#options = options;
    this.#log = options.thread.shards === 1 ? options.log : options.log.child({ shard: this.#number });
    this.#thread = new PacketThread(ENTRY, options.thread, (report: ServerThreadReport) => this.#onReport(report));
    this.#thread.ended.then(
      () => this.#fail(new CodedError('PACKET_THREAD', 'the packet thread has ended')),
      (error: unknown) => this.#fail(error as Error),
    );
    this.#ready.promise.catch(() => undefined);
  }

  get isReady(): boolean {
    return this.#state === 'ready';
  }

  /** Resolves with the address that is listened on. Rejects with what the thread cannot start without. */
  get listening(): Promise<string> {
    return this.#ready.promise;
  }

  /** False when the thread has ended. */
  post(command: Exclude<ServerThreadCommand, { type: 'addBlock' | 'removeBlock' | 'drain' | 'stop' }>): boolean {
    return this.#thread.post(command);
  }

  /** Resolves when the block's packets reach the thread. Rejects with BLOCK_SETUP_FAILED. */
  async addBlock(block: TunnelBlock): Promise<void> {
    const problem = await this.#change('added', block.block, { type: 'addBlock', block });
    if (problem !== null) throw new CodedError('BLOCK_SETUP_FAILED', problem);
  }

  /** Resolves when nothing of the block is left on the thread's interface, as far as that is possible. */
  async removeBlock(block: TunnelBlock): Promise<void> {
    const problem = await this.#change('removed', block.block, { type: 'removeBlock', block });
    if (problem !== null) this.#log.warn({ block: block.block, problem }, 'a lost address block is not cleared away');
  }

  /** Resolves when every tunnel has ended, or the thread has. */
  drain(): Promise<void> {
    if (this.#state !== 'failed') this.#state = 'draining';
    this.#thread.post({ type: 'drain' });
    return this.#drained.promise;
  }

  /** Ends the thread, after a drain if there was none. False when it had not ended after `timeoutMs`. */
  async stop(timeoutMs: number): Promise<boolean> {
    if (this.#state === 'starting' || this.#state === 'ready') void this.drain();
    this.#thread.post({ type: 'stop' });
    const ended = this.#thread.ended.then(
      () => true,
      (error: unknown) => {
        this.#log.error({ err: error }, 'the packet thread failed');
        return true;
      },
    );
    return Promise.race([ended, delay(timeoutMs, false, { ref: false })]);
  }

  #onReport(report: ServerThreadReport): void {
    switch (report.type) {
      case 'ready':
        this.#state = 'ready';
        this.#ready.resolve(report.listen);
        return;
      case 'request':
      case 'failed':
      case 'closed':
      case 'channelAborted':
      case 'window':
        this.#options.onReport(this.#number, report);
        return;
      case 'blockChanged':
        this.#changes.get(`${report.change} ${report.block}`)?.(report.problem);
        return;
      case 'coreMessage':
        this.#log.warn({ message: report.message }, 'the QUIC core says');
        return;
      case 'coreAborted':
        this.#log.error(
          { message: report.message },
          'a QUIC core aborted and was replaced; its clients have to come back',
        );
        return;
      case 'drained':
        this.#drained.resolve();
        return;
      case 'fatal':
        this.#fail(new CodedError(report.code, report.message));
        return;
      default:
        report satisfies never;
    }
  }

  #change(change: 'added' | 'removed', block: string, command: ServerThreadCommand): Promise<string | null> {
    if (this.#state === 'failed') return Promise.resolve('the packet thread has ended');
    const key = `${change} ${block}`;
    return new Promise((resolve) => {
      this.#changes.set(key, (problem) => {
        this.#changes.delete(key);
        resolve(problem);
      });
      this.#thread.post(command);
    });
  }

  #fail(error: Error): void {
    if (this.#state === 'failed') return;
    const wanted = this.#state === 'draining';
    this.#state = 'failed';
    for (const settle of this.#changes.values()) settle(error.message);
    this.#ready.reject(error);
    this.#drained.resolve();
    if (!wanted) this.#options.onFatal(error);
  }
}
