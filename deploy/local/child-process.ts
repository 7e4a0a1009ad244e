import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { completePath } from './find-program.ts';
import { discharge, entrust, type Leftover } from './janitor.ts';
import { identifyProcess } from './process-identity.ts';
import { StopWaiting, type Truthy, waitFor } from './wait-for.ts';

/** How long a process may take to end after SIGTERM before it is killed. */
const DEFAULT_STOP_DEADLINE_MS = 10_000;
const LAST_LOG_LINES = 25;

export interface ProcessSpec {
  /** A short name for messages, e.g. `node-a`. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Added to PATH, HOME and the other harmless variables of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Standard output and error go here (created with mode 0600, appended to). */
  readonly logFile: string;
  /** What asks it to end; SIGTERM when not given. */
  readonly stopSignal?: NodeJS.Signals;
}

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A process of the local cluster. It has a process group of its own, so a Ctrl-C reaches the launcher only. */
export interface ManagedProcess {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves when the process has ended, never rejects, and does not keep the launcher alive. */
  readonly exited: Promise<ExitStatus>;
  /** The same, and the launcher lives on until then. */
  ended(): Promise<ExitStatus>;
  /** How it ended, or undefined while it runs. */
  exitStatus(): ExitStatus | undefined;
  lastLogLines(count?: number): string;
  /** Sends a signal; nothing happens when it has ended. */
  signal(name: NodeJS.Signals): void;
  /** Asks it to end, and sends SIGKILL when it is still there after the deadline. Does nothing when it has ended. */
  stop(deadlineMs?: number): Promise<ExitStatus>;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<ExitStatus>;
  /** Probes until truthy; throws at once, with the last log lines, when the process ends first. */
  untilReady<T>(probe: () => T | Promise<T>, what: string, timeoutMs: number): Promise<Truthy<T>>;
}

/** Only these pass on from the launcher: a child's configuration must not depend on who started it. */
const INHERITED = ['HOME', 'LANG', 'TZ', 'TMPDIR', 'LOG_LEVEL', 'NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS'];

/** Starts a process that ends with its launcher, however that ends (janitor.ts). Throws when the command cannot be run at all. */
export async function startProcess(spec: ProcessSpec): Promise<ManagedProcess> {
  mkdirSync(dirname(spec.logFile), { recursive: true });
  const log = openSync(spec.logFile, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = spawn(spec.command, spec.args, {
      cwd: spec.cwd,
      env: { ...inheritedEnvironment(), ...spec.env },
      stdio: ['ignore', log, log],
      detached: true,
    });
  } finally {
    closeSync(log);
  }
  let status: ExitStatus | undefined;
  let leftover: Leftover | undefined;
  const exited = new Promise<ExitStatus>((resolve) => {
    child.once('exit', (code, signal) => {
      status = { code, signal };
      if (leftover !== undefined) discharge(leftover);
      resolve(status);
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => reject(new Error(`${spec.name}: cannot run ${spec.command}`, { cause })));
  });
  const pid = child.pid as number;
  const stopSignal = spec.stopSignal ?? 'SIGTERM';
  const identity = identifyProcess(pid);
  if (identity !== undefined && status === undefined) {
    leftover = { kind: 'process', name: spec.name, identity, stopSignal };
    entrust(leftover);
  }
  // A running child must not keep its launcher alive: who needs it to live on awaits `exited`.
  child.unref();

  const lastLogLines = (count = LAST_LOG_LINES): string =>
    readFileSync(spec.logFile, 'utf8').trimEnd().split('\n').slice(-count).join('\n');

  const signal = (name: NodeJS.Signals): void => {
    if (status === undefined) child.kill(name);
  };

  const ended = (): Promise<ExitStatus> => {
    if (status === undefined) child.ref();
    return exited;
  };

  return {
    name: spec.name,
    pid,
    logFile: spec.logFile,
    exited,
    ended,
    exitStatus: () => status,
    lastLogLines,
    signal,
    async stop(deadlineMs = DEFAULT_STOP_DEADLINE_MS) {
      signal(stopSignal);
      const abort = new AbortController();
      const deadline = delay(deadlineMs, 'late' as const, { signal: abort.signal }).catch(() => 'late' as const);
      const outcome = await Promise.race([ended(), deadline]);
      abort.abort();
      if (outcome !== 'late') return outcome;
      signal('SIGKILL');
      return ended();
    },
    async kill() {
      signal('SIGKILL');
      return ended();
    },
    async untilReady(probe, what, timeoutMs) {
      const guarded = async () => {
        if (status !== undefined) throw new StopWaiting(`${spec.name} ended (${describeExit(status)}) before ${what}`);
        return probe();
      };
      try {
        return await waitFor(guarded, { timeoutMs, what: `${what} of ${spec.name}` });
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`${reason}; last lines of ${spec.logFile}:\n${lastLogLines()}`, { cause });
      }
    },
  };
}

export function describeExit({ code, signal }: ExitStatus): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`;
}

function inheritedEnvironment(): Record<string, string> {
  const environment: Record<string, string> = { PATH: completePath() };
  for (const name of INHERITED) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}
