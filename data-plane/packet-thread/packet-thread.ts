import { Worker } from 'node:worker_threads';
import { EventFd } from '../os/event-fd.ts';

/** The main thread's end of its link to a packet thread, which it starts. */
export class PacketThread<In, Out> {
  readonly #worker: Worker;
  readonly #wake = EventFd.create();
  /** Resolves when the thread has ended; rejects with what it threw. */
  readonly ended: Promise<void>;
  #running = true;

  /** `entry` is the thread's main file; `options` must be something that structured clone can copy. */
  constructor(entry: URL, options: unknown, onMessage: (message: Out) => void) {
    this.#worker = new Worker(entry, { workerData: { wakeFd: this.#wake.fd, options } });
    this.#worker.on('message', onMessage);
    this.ended = new Promise<void>((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => resolve());
    }).finally(() => {
      this.#running = false;
      this.#wake.close();
    });
  }

  /** Sends a message and wakes the thread; nothing happens when it has ended. */
  post(message: In): void {
    if (!this.#running) return;
    this.#worker.postMessage(message);
    this.#wake.signal();
  }
}
