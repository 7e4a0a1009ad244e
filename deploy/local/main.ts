import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FLAG, parseArguments } from '../../shared/config/parse-arguments.ts';
import { ConfigError, EXIT_BAD_CONFIG } from '../../shared/config/parse-config.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { removeClusterFile, writeClusterFile } from './cluster-file.ts';
import { liveOwner, takeDataDirectory } from './data-directory.ts';
import { EndRequest, endSignals } from './end-signals.ts';
import { completePath } from './find-program.ts';
import { discharge, entrust, type Leftover } from './janitor.ts';
import { CLUSTER_PROGRAMS, checkNamespaces, installMissing, PrerequisiteError, whyNoNetwork } from './prerequisites.ts';
import { runOn } from './run-on.ts';
import { type OnceResult, runOnce } from './run-once.ts';

const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;
const DATA_DIRECTORY = fileURLToPath(new URL('../../.data', import.meta.url));

const HELP = `Starts a whole masque-vpn cluster on this machine: NATS, Postgres, the control plane, two nodes and three
clients, each node and client in a network namespace of its own, with real traffic through the tunnels.

  npm start                     runs until Ctrl-C; keeps its data below .data/
  npm start -- --once           on fresh data: traffic for 15 s, checks, exit 0 if all hold, else 1
  npm start -- --once --json    the same, with the result as JSON on the last line
  npm start -- --help           this text

It needs Linux, root and /dev/net/tun, and installs nats-server, iproute2 and iputils-ping from Debian where they
are missing. It uses addresses that are set aside for documentation only, and removes what it makes when it ends.`;

const startedAt = performance.now();
const seconds = (): string => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`.padStart(8);
const print = (text: string): void => console.log(text);
const progress = (line: string): void => print(`${seconds()}  ${line}`);

// A terminal or pipe that is gone must not break the orderly end.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.env.PATH = completePath();
process.exitCode = await main();

async function main(): Promise<number> {
  const options = readArguments();
  if (typeof options === 'number') return options;
  const signal = endSignals();
  try {
    const reason = whyNoNetwork();
    if (reason !== undefined) throw new PrerequisiteError(`a local cluster ${reason}`);
    await installMissing(CLUSTER_PROGRAMS, progress);
    await checkNamespaces();
    signal.throwIfAborted();
    return options.once ? await once(signal, options.json) : await keepOn(signal);
  } catch (error) {
    // Whatever broke while it was told to end broke because of that.
    if (signal.reason instanceof EndRequest) {
      progress(`ended by ${signal.reason.message}`);
      return options.once ? EXIT_INTERRUPTED : 0;
    }
    console.error(`masque-vpn: ${describe(error)}`);
    if (options.json) printResult(failedStart(error));
    return EXIT_FAILED;
  }
}

function readArguments(): { readonly once: boolean; readonly json: boolean } | number {
  try {
    const given = parseArguments(process.argv.slice(2), { once: FLAG, json: FLAG });
    if (given === undefined) {
      print(HELP);
      return 0;
    }
    const { once, json } = given.values;
    if (json && !once) throw new ConfigError('arguments', '--json', '--once with it');
    return { once, json };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(`masque-vpn: ${error.message}; help: npm start -- --help`);
    return EXIT_BAD_CONFIG;
  }
}

async function keepOn(signal: AbortSignal): Promise<number> {
  const release = takeDataDirectory(DATA_DIRECTORY);
  try {
    await withCluster(DATA_DIRECTORY, signal, (cluster) => runOn(cluster, print, signal));
    return 0;
  } finally {
    release();
  }
}

async function once(signal: AbortSignal, json: boolean): Promise<number> {
  mkdirSync(DATA_DIRECTORY, { recursive: true, mode: 0o700 });
  const directory = mkdtempSync(join(DATA_DIRECTORY, 'once-'));
  const leftover: Leftover = { kind: 'path', path: directory };
  entrust(leftover);
  let result: OnceResult | undefined;
  try {
    result = await withCluster(directory, signal, (cluster) => runOnce(cluster, print, signal));
  } finally {
    // The logs of a run that failed are worth keeping; data that all checks liked is not.
    if (result?.ok || signal.aborted) rmSync(directory, { recursive: true, force: true });
    else progress(`data and logs stay in ${directory}`);
    discharge(leftover);
  }
  const failed = result.checks.filter((check) => !check.ok);
  progress(
    failed.length === 0
      ? `all ${result.checks.length} checks hold`
      : `${failed.length} of ${result.checks.length} checks failed: ${failed.map((check) => check.name).join('; ')}`,
  );
  if (json) printResult(result);
  return result.ok ? 0 : EXIT_FAILED;
}

async function withCluster<T>(
  directory: string,
  signal: AbortSignal,
  use: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const cluster = await startCluster({ directory, signal, progress });
  // A run on fresh data is found in the usual place too, unless a cluster that goes on is there already.
  const places = directory === DATA_DIRECTORY || liveOwner(DATA_DIRECTORY) ? [directory] : [DATA_DIRECTORY, directory];
  const files = places.map((path) => join(path, 'cluster.json'));
  const leftovers = files.map((path): Leftover => ({ kind: 'path', path }));
  try {
    for (const leftover of leftovers) entrust(leftover);
    for (const file of files) writeClusterFile(file, cluster);
    progress(`the cluster is up (${files[0]}, data in ${directory})`);
    return await use(cluster);
  } finally {
    progress('stopping');
    for (const file of files) removeClusterFile(file, cluster);
    for (const leftover of leftovers) discharge(leftover);
    await cluster.stop();
    progress('stopped');
  }
}

/** A start that fails has a result too, for who reads the last line. */
function failedStart(error: unknown): OnceResult {
  const check = { name: 'the run comes to its end', ok: false, expected: 'no error', actual: describe(error) };
  return { ok: false, checks: [check], clients: [] };
}

function printResult(result: OnceResult): void {
  print(JSON.stringify(result));
}

/** Causes are for programs; here the message says all, and several errors are one line each. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join('\n');
  return error instanceof Error ? error.message : String(error);
}
