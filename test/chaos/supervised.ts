import { describeExit, type ExitStatus } from '../../deploy/local/child-process.ts';
import type { Service } from '../../deploy/local/service.ts';

/** A process that is started again whenever it ends, as a service manager does, but while a fault holds it down. */
export class Supervised {
  readonly name: string;
  readonly service: Service;
  /** The ends that no fault brought about. */
  readonly unexpected: string[] = [];
  readonly #launch: () => Promise<void>;
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
    const status = this.service.process().exitStatus();
    if (!this.#wasEnded) this.unexpected.push(`${this.name}: ${describeExit(status as ExitStatus)}`);
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
