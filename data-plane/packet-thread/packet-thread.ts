import { EventFd } from '../os/event-fd.ts';
import { WorkerThread } from './worker-thread.ts';

/** The main thread's end of its link to a packet thread, which it starts. */
export class PacketThread<In, Out> {
  readonly #wake = EventFd.create();
  readonly #thread: WorkerThread<In, Out>;
  /** Resolves when the thread has ended; rejects with what it threw. */
  readonly ended: Promise<void>;

  /** `entry` is the thread's main file; `options` must be something that structured clone can copy. */
  constructor(entry: URL, options: unknown, onMessage: (message: Out) => void) {
    this.#thread = new WorkerThread(entry, { wakeFd: this.#wake.fd, options }, onMessage);
    this.ended = this.#thread.ended.finally(() => this.#wake.close());
  }

  /** Sends a message and wakes the thread; false when it has ended. */
  post(message: In): boolean {
    const running = this.#thread.post(message);
    if (running) this.#wake.signal();
    return running;
  }
}
