import { Worker } from 'node:worker_threads';

/** The main thread's end of its link to a thread, which it starts. */
export class WorkerThread<In, Out> {
  readonly #worker: Worker;
  /** Resolves when the thread has ended; rejects with what it threw. */
  readonly ended: Promise<void>;
  #running = true;

  /** `entry` is the thread's main file; `workerData` must be something that structured clone can copy. */
  constructor(entry: URL, workerData: unknown, onMessage: (message: Out) => void) {
    this.#worker = new Worker(entry, { workerData });
    this.#worker.on('message', onMessage);
    this.ended = new Promise<void>((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => resolve());
    }).finally(() => {
      this.#running = false;
    });
  }

  /** Sends a message. False when the thread has ended. */
  post(message: In): boolean {
    if (this.#running) this.#worker.postMessage(message);
    return this.#running;
  }
}
