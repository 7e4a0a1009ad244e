import { type ExitStatus, type ManagedProcess, type ProcessSpec, startProcess } from './child-process.ts';

export interface ServiceSpec extends ProcessSpec {
  /** Answers truthy once the process does its work. */
  readonly ready: { readonly what: string; readonly timeoutMs: number; probe(): unknown };
  /** Told each new process, e.g. to note its pid. */
  readonly onStart?: (process: ManagedProcess) => void;
}

/** A process that can be stopped, killed and started again: what fault tests act on. */
export interface Service {
  readonly name: string;
  readonly logFile: string;
  /** The running or last process. Throws before the first start. */
  process(): ManagedProcess;
  running(): boolean;
  /** Starts it, with more variables if so wanted; returns before it is ready. */
  launch(env?: Readonly<Record<string, string>>): Promise<void>;
  untilReady(): Promise<void>;
  /** `launch` and `untilReady`. */
  start(env?: Readonly<Record<string, string>>): Promise<void>;
  stop(deadlineMs?: number): Promise<ExitStatus | undefined>;
  kill(): Promise<ExitStatus | undefined>;
}

export function createService(spec: ServiceSpec): Service {
  let current: ManagedProcess | undefined;
  const running = () => current !== undefined && current.exitStatus() === undefined;
  const process = () => {
    if (current === undefined) throw new Error(`${spec.name} was never started`);
    return current;
  };
  const launch: Service['launch'] = async (env) => {
    if (running()) throw new Error(`${spec.name} runs already`);
    current = await startProcess({ ...spec, env: { ...spec.env, ...env } });
    spec.onStart?.(current);
  };
  const untilReady = async () => {
    await process().untilReady(async () => Boolean(await spec.ready.probe()), spec.ready.what, spec.ready.timeoutMs);
  };
  return {
    name: spec.name,
    logFile: spec.logFile,
    process,
    running,
    launch,
    untilReady,
    async start(env) {
      await launch(env);
      await untilReady();
    },
    stop: async (deadlineMs) => current?.stop(deadlineMs),
    kill: async () => current?.kill(),
  };
}
