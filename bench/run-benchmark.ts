import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EndRequest, endSignals } from '../deploy/local/end-signals.ts';
import { completePath, findProgram } from '../deploy/local/find-program.ts';
import { discharge, entrust, type Leftover } from '../deploy/local/janitor.ts';
import { checkNamespaces, PrerequisiteError, type Requirement, whyNoNetwork } from '../deploy/local/prerequisites.ts';
import { EXIT_BAD_CONFIG } from '../shared/config/parse-config.ts';
import { describeError } from '../shared/errors.ts';
import type { JudgedBar } from './bar.ts';
import type { BenchContext } from './bench-context.ts';
import { keepLogs } from './keep-logs.ts';

const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;

interface Report {
  readonly ok: boolean;
  readonly bars: readonly JudgedBar[];
}

export interface Benchmark<Options, Result extends Report> {
  readonly name: string;
  readonly help: string;
  /** Undefined asks for the help text; throws when an argument is wrong. */
  readonly parse: (args: readonly string[]) => Options | undefined;
  /** None: it needs no program and no network of its own. */
  readonly programs?: (options: Options) => readonly Requirement[];
  readonly measure: (options: Options, context: BenchContext) => Promise<Result>;
  readonly render: (result: Result) => string;
  /** The logs stay where the result is not as it must be, too. */
  readonly keepsLogs?: boolean;
}

/** Runs a benchmark from the command line, cleans up behind it in whatever way it ends, and sets the exit code. */
export async function runBenchmark<Options extends { readonly json: boolean }, Result extends Report>(
  benchmark: Benchmark<Options, Result>,
): Promise<void> {
  // A terminal or pipe that is gone must not break the orderly end.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  process.env.PATH = completePath();
  process.exitCode = await run(benchmark);
}

async function run<Options extends { readonly json: boolean }, Result extends Report>(
  benchmark: Benchmark<Options, Result>,
): Promise<number> {
  let options: Options | undefined;
  try {
    options = benchmark.parse(process.argv.slice(2));
  } catch (error) {
    console.error(`${benchmark.name}: ${describeError(error)}; help: npm run ${benchmark.name} -- --help`);
    return EXIT_BAD_CONFIG;
  }
  if (options === undefined) {
    process.stdout.write(benchmark.help);
    return 0;
  }
  const signal = endSignals();
  try {
    if (benchmark.programs !== undefined) await demand(benchmark.programs(options));
    const result = await measure(benchmark, options, signal);
    console.log(`\n${benchmark.render(result)}`);
    for (const { name, required, actual, verdict } of result.bars) {
      if (verdict === 'MISSED') console.error(`missed: ${name}: ${actual}, required ${required}`);
    }
    if (options.json) console.log(JSON.stringify(result));
    return result.ok ? 0 : EXIT_FAILED;
  } catch (error) {
    // Whatever broke while it was told to end broke because of that.
    const interrupted = signal.reason instanceof EndRequest;
    const why = interrupted ? `ended by ${signal.reason.message}` : describe(error);
    console.error(`${benchmark.name}: ${why}`);
    if (options.json) console.log(JSON.stringify({ ok: false, error: why }));
    return interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
  }
}

/** Unlike npm start, a benchmark installs nothing: what it compares with is for its user to choose. */
async function demand(requirements: readonly Requirement[]): Promise<void> {
  const reason = whyNoNetwork();
  if (reason !== undefined) throw new PrerequisiteError(`it ${reason}`);
  const missing = requirements.filter(({ program }) => findProgram(program) === undefined);
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(({ debianPackage }) => debianPackage))].join(' ');
    const programs = missing.map(({ program }) => program).join(', ');
    throw new PrerequisiteError(
      `${programs} not found; install with: apt-get install --no-install-recommends ${packages}`,
    );
  }
  await checkNamespaces();
}

async function measure<Options, Result extends Report>(
  benchmark: Benchmark<Options, Result>,
  options: Options,
  signal: AbortSignal,
): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-bench-'));
  const leftover: Leftover = { kind: 'path', path: directory };
  entrust(leftover);
  const startedAt = performance.now();
  const progress = (line: string) => {
    signal.throwIfAborted();
    console.log(`${((performance.now() - startedAt) / 1000).toFixed(1).padStart(7)} s  ${line}`);
  };
  const ends: (() => Promise<unknown>)[] = [];
  let keep = false;
  try {
    const result = await benchmark.measure(options, { directory, signal, progress, atEnd: (end) => ends.push(end) });
    keep = !result.ok && benchmark.keepsLogs === true;
    return result;
  } catch (error) {
    keep = !signal.aborted;
    throw error;
  } finally {
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) {
      await end().catch((error) => console.error(`${benchmark.name}: at the end: ${describeError(error)}`));
    }
    leave(benchmark.name, directory, keep);
    discharge(leftover);
  }
}

/** The logs of a run that broke are worth keeping. What goes wrong here must not hide why it broke. */
function leave(name: string, directory: string, keep: boolean): void {
  try {
    if (keep && keepLogs(directory)) console.error(`${name}: logs stay in ${directory}`);
    else rmSync(directory, { recursive: true, force: true });
  } catch (error) {
    console.error(`${name}: ${directory} stays: ${describeError(error)}`);
  }
}

/** Causes are for programs; here the message says all. */
function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
