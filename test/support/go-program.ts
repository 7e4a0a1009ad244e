import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { completePath } from '../../deploy/local/find-program.ts';

const run = promisify(execFile);
/** With nothing in Go's cache, on a slow machine. */
const BUILD_TIMEOUT_MS = 180_000;
/** How Go says that it could not load a module from where modules come from, in contrast to one that is wrong. */
const UNREACHABLE =
  /dial (tcp|udp)|no such host|i\/o timeout|handshake timeout|connection (refused|reset)|unreachable|deadline exceeded|disabled by GOPROXY|: (403|407|429|5\d\d) /i;

export interface GoProgram {
  /** The folder of the module. */
  readonly module: string;
  /** Where the program goes. Go's own cache makes a second build fast. */
  readonly output: string;
  /** Arguments of `go build`, e.g. tags. */
  readonly args?: readonly string[];
}

/**
 * Builds a program; returns false, or why it cannot be built here: its modules are in no cache and the proxy of Go modules cannot be
 * reached. Under REQUIRE_ALL=1 that is an error, as whatever else goes wrong.
 */
export async function buildGoProgram({ module, output, args = [] }: GoProgram): Promise<string | false> {
  try {
    await run('go', ['build', '-buildvcs=false', '-mod=readonly', ...args, '-o', output, '.'], {
      cwd: module,
      env: { ...process.env, PATH: completePath() },
      timeout: BUILD_TIMEOUT_MS,
      maxBuffer: 2 ** 24,
    });
    return false;
  } catch (error) {
    const detail = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    const unreachable = detail.split('\n').find((line) => UNREACHABLE.test(line));
    if (unreachable === undefined || process.env.REQUIRE_ALL === '1') {
      throw new Error(`go build in ${module} failed:\n${detail}`);
    }
    return `needs the proxy of Go modules: ${unreachable}`;
  }
}
