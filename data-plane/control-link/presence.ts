import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { PRESENCE_INTERVAL_MS, type Presence, presenceMessage, presenceSubject } from '../../shared/nats/messages.ts';
import type { Link } from './nats-link.ts';

export interface PresenceSenderOptions {
  readonly node: string;
  readonly link: Link;
  readonly log: Logger;
  /** Asked at each sending, because a spool can begin a new epoch. */
  readonly presence: () => Presence;
}

/** Says every 2 s that this node is alive, and at once when the connection comes up. */
export class PresenceSender {
  readonly #options: PresenceSenderOptions;
  #timer: NodeJS.Timeout | undefined;
  #stopLink: (() => void) | undefined;

  constructor(options: PresenceSenderOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#send(), PRESENCE_INTERVAL_MS);
    this.#stopLink ??= this.#options.link.onUp(() => this.#send());
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stopLink?.();
    this.#stopLink = undefined;
  }

  #send(): void {
    const { node, link, log, presence } = this.#options;
    try {
      link.connection?.publish(presenceSubject(node), presenceMessage.encode(presence()));
    } catch (error) {
      log.debug({ reason: describeError(error) }, 'presence was not sent');
    }
  }
}
