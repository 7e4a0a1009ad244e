import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { identifyProcess, type ProcessIdentity } from './process-identity.ts';

/** What must not outlive its launcher. */
export type Leftover =
  | {
      readonly kind: 'process';
      readonly name: string;
      readonly identity: ProcessIdentity;
      readonly stopSignal: NodeJS.Signals;
    }
  | { readonly kind: 'slot'; readonly slot: number; readonly owner: ProcessIdentity }
  | { readonly kind: 'mount'; readonly path: string }
  | { readonly kind: 'path'; readonly path: string };

/** One line from the launcher to its janitor. */
export interface JanitorMessage {
  readonly add?: Leftover;
  readonly remove?: Leftover;
}

let janitor: ChildProcess | undefined;

/**
 * Hands something over to a helper process that ends or removes it when this process is gone, in whatever way: the helper
 * holds the other end of a pipe. It is started with the first leftover and shared by all that follow.
 */
export function entrust(leftover: Leftover): void {
  janitor ??= startJanitor();
  send({ add: leftover });
}

/** Takes something back that is gone already. */
export function discharge(leftover: Leftover): void {
  if (janitor !== undefined) send({ remove: leftover });
}

/** This process, as the owner of what it makes. */
export function ownIdentity(): ProcessIdentity {
  return identifyProcess(process.pid) as ProcessIdentity;
}

function startJanitor(): ChildProcess {
  const script = fileURLToPath(new URL('./janitor-main.ts', import.meta.url));
  const child = spawn(process.execPath, [script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, cwd: '/' });
  child.unref();
  // Neither the helper nor its pipe keeps this process alive. A broken pipe means that someone killed the helper.
  const pipe = child.stdin as (typeof child)['stdin'] & { unref?: () => void };
  pipe?.unref?.();
  pipe?.on('error', () => undefined);
  return child;
}

function send(message: JanitorMessage): void {
  janitor?.stdin?.write(`${JSON.stringify(message)}\n`);
}
