import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type ManagedProcess, startProcess } from '../../../deploy/local/child-process.ts';
import { inNamespace } from '../../../deploy/local/netns-topology.ts';
import { buildGoProgram } from '../../support/go-program.ts';

const run = promisify(execFile);
const MODULE = fileURLToPath(new URL('../../interop', import.meta.url));
const EVENT_TIMEOUT_MS = 15_000;
const FETCH_TIMEOUT_MS = 30_000;
const MAX_FETCH_BYTES = 16 * 2 ** 20;

export type ConnectIpGoVersion = 'v0.7.0' | 'v0.1.0';

const BUILD_ARGS: Readonly<Record<ConnectIpGoVersion, readonly string[]>> = {
  'v0.7.0': [],
  'v0.1.0': ['-modfile=go.v0.1.mod', '-tags=v01'],
};

/** A line of what the program says. */
export interface InteropEvent {
  readonly event: string;
  readonly addresses?: readonly string[];
  readonly routes?: readonly string[];
  readonly requested?: readonly string[] | null;
  readonly status?: number;
}

/** test/interop with one version of connect-ip-go. */
export class ConnectIpGo {
  readonly version: ConnectIpGoVersion;
  readonly #program: string;

  constructor(version: ConnectIpGoVersion, directory: string) {
    this.version = version;
    this.#program = join(directory, `interop-${version}`);
  }

  /** False, or why it cannot be built here. */
  build(): Promise<string | false> {
    return buildGoProgram({ module: MODULE, output: this.#program, args: BUILD_ARGS[this.version] });
  }

  async start(options: {
    readonly namespace: string;
    readonly command: 'client' | 'proxy' | 'serve-http3';
    readonly flags: Readonly<Record<string, string>>;
    readonly token?: string;
    readonly logFile: string;
  }): Promise<InteropProcess> {
    const [command, args] = inNamespace(options.namespace, this.#program, [options.command, ...words(options.flags)]);
    const name = `${options.command} ${this.version}`;
    const env = options.token === undefined ? {} : { MASQUE_VPN_TOKEN: options.token };
    return new InteropProcess(await startProcess({ name, command, args, env, logFile: options.logFile }));
  }

  /** What a URL has, seen from a namespace: by TCP for http, by HTTP/3 in packets of 1200 bytes for https. */
  async fetch(namespace: string, flags: { readonly url: string; readonly ca?: string }): Promise<Buffer> {
    const [command, args] = inNamespace(namespace, this.#program, ['fetch', ...words(flags)]);
    const { stdout } = await run(command, args, {
      encoding: 'buffer',
      timeout: FETCH_TIMEOUT_MS,
      maxBuffer: MAX_FETCH_BYTES,
    });
    return stdout;
  }
}

export class InteropProcess {
  readonly process: ManagedProcess;

  constructor(process: ManagedProcess) {
    this.process = process;
  }

  /** What it said so far, without the lines that connect-ip-go writes. */
  events(): readonly InteropEvent[] {
    const lines = readFileSync(this.process.logFile, 'utf8').split('\n').slice(0, -1);
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }

  until(name: string): Promise<InteropEvent> {
    const find = () => this.events().find(({ event }) => event === name);
    return this.process.untilReady(find, name, EVENT_TIMEOUT_MS);
  }
}

const words = (flags: Readonly<Record<string, string>>): string[] =>
  Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
