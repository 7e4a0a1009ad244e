import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventFd } from '../os/event-fd.ts';

/** What the main thread hands to a packet thread when it starts it. */
interface ThreadData<Options> {
  readonly wakeFd: number;
  readonly options: Options;
}

/** The packet thread's end of its link to the main thread. Messages are taken when the loop is woken, never by events. */
export class ThreadPort<In, Out, Options> {
  readonly wake: EventFd;
  readonly options: Options;

  constructor() {
    const data = workerData as ThreadData<Options>;
    this.wake = EventFd.fromFd(data.wakeFd);
    this.options = data.options;
  }

  post(message: Out): void {
    parentPort?.postMessage(message);
  }

  /** Hands over all messages that are there. */
  receive(handle: (message: In) => void): void {
    if (parentPort === null) return;
    for (let next = receiveMessageOnPort(parentPort); next !== undefined; next = receiveMessageOnPort(parentPort)) {
      handle(next.message as In);
    }
  }
}
