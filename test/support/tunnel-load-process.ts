import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LoadCommand, LoadReport } from './tunnel-load.ts';

const SCRIPT = fileURLToPath(new URL('./tunnel-load.ts', import.meta.url));

/** A process with many tunnels (tunnel-load.ts), seen from its parent. It ends with the parent. */
export class TunnelLoadProcess {
  readonly #child: ChildProcess = fork(SCRIPT, { execArgv: [] });

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** One command at a time. Rejects when the process ends, or answers anything else. */
  async ask<T extends LoadReport['type']>(command: LoadCommand, type: T): Promise<Extract<LoadReport, { type: T }>> {
    const settled = new AbortController();
    const { signal } = settled;
    try {
      const answered = once(this.#child, 'message', { signal });
      const ended = once(this.#child, 'exit', { signal }).then(() =>
        Promise.reject(new Error('the load generator has ended')),
      );
      this.#child.send(command);
      const [answer] = (await Promise.race([answered, ended])) as [LoadReport];
      if (answer.type !== type) throw new Error(`the load generator answered ${answer.type} instead of ${type}`);
      return answer as Extract<LoadReport, { type: T }>;
    } finally {
      settled.abort();
    }
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
