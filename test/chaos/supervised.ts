import { describeExit, type ExitStatus } from '../../deploy/local/child-process.ts';
import type { Service } from '../../deploy/local/service.ts';

/** The end of a process that no fault brought about. */
export interface UnexpectedEnd {
  readonly process: string;
  readonly status: string;
  readonly lastLogLines: string;
}

/** A process that is started again whenever it ends, as a service manager does, but while a fault holds it down. */
export class Supervised {
  readonly name: string;
  readonly service: Service;
  readonly #launch: () => Promise<void>;
  #unexpected: UnexpectedEnd[] = [];
  #isHeld = false;
  #isFrozen = false;
  /** By us, since its last start. */
  #wasEnded = false;

  constructor(name: string, service: Service, launch: () => Promise<void> = () => service.launch()) {
    this.name = name;
    this.service = service;
    this.#launch = launch;
  }

  /** Whether a fault has hold of it. */
  get isDisturbed(): boolean {
    return this.#isHeld || this.#isFrozen;
  }

  get pid(): number | undefined {
    return this.service.running() ? this.service.process().pid : undefined;
  }

  /** The unexpected ends since the last time it was asked for them. */
  takeUnexpected(): UnexpectedEnd[] {
    const taken = this.#unexpected;
    this.#unexpected = [];
    return taken;
  }

  /** SIGKILL; it stays down until `release`. */
  async kill(): Promise<void> {
    this.#isHeld = true;
    this.#wasEnded = true;
    await this.service.kill();
  }

  release(): void {
    this.#isHeld = false;
  }

  freeze(): void {
    this.#isFrozen = true;
    this.service.process().signal('SIGSTOP');
  }

  thaw(): void {
    this.#isFrozen = false;
    this.service.process().signal('SIGCONT');
  }

  /** Starts it again where it has ended. */
  async look(): Promise<void> {
    if (this.#isHeld || this.service.running()) return;
    if (!this.#wasEnded) {
      const last = this.service.process();
      const status = describeExit(last.exitStatus() as ExitStatus);
      this.#unexpected.push({ process: this.name, status, lastLogLines: last.lastLogLines() });
    }
    this.#wasEnded = false;
    await this.#launch();
  }

  /** SIGTERM; it stays down until `release`. */
  async stop(): Promise<void> {
    this.#isHeld = true;
    this.#wasEnded = true;
    this.thaw();
    await this.service.stop();
  }
}
