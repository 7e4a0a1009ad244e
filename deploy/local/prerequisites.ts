import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { CodedError } from '../../shared/errors.ts';
import { completePath, findProgram } from './find-program.ts';
import { ip } from './ip-command.ts';

const run = promisify(execFile);
const APT_TIMEOUT_MS = 180_000;

/** A program and the Debian package that brings it. */
export interface Requirement {
  readonly program: string;
  readonly debianPackage: string;
}

/** What a local cluster needs besides npm packages. */
export const CLUSTER_PROGRAMS: readonly Requirement[] = [
  { program: 'nats-server', debianPackage: 'nats-server' },
  { program: 'ip', debianPackage: 'iproute2' },
  { program: 'ping', debianPackage: 'iputils-ping' },
];

/** What some tests need more. */
export const TEST_PROGRAMS: readonly Requirement[] = [
  ...CLUSTER_PROGRAMS,
  { program: 'prometheus', debianPackage: 'prometheus' },
  { program: 'promtool', debianPackage: 'prometheus' },
  { program: 'docker-compose', debianPackage: 'docker-compose' },
  { program: 'curl', debianPackage: 'curl' },
  { program: 'nft', debianPackage: 'nftables' },
  { program: 'chromium', debianPackage: 'chromium' },
];

/** Something that the person at the keyboard has to change; the message says what and how. */
export class PrerequisiteError extends CodedError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('PREREQUISITE', message, options);
  }
}

/** Why a local cluster cannot run here whatever is installed, or undefined. */
export function whyNoNetwork(): string | undefined {
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces and TUN devices: run it as root or by sudo';
  if (!existsSync('/dev/net/tun')) {
    return 'needs /dev/net/tun: load it by "modprobe tun", or start the container with --device /dev/net/tun';
  }
  return undefined;
}

/**
 * Installs from Debian what is missing, and says so by `progress`. Throws PrerequisiteError, with the packages and the
 * command, when it may not install or that fails.
 */
export async function installMissing(
  requirements: readonly Requirement[],
  progress: (line: string) => void,
): Promise<void> {
  const missing = requirements.filter(({ program }) => findProgram(program) === undefined);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(({ debianPackage }) => debianPackage))];
  const programs = missing.map(({ program }) => program).join(', ');
  const command = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  const byHand = `install ${packages.join(', ')} with: ${process.getuid?.() === 0 ? '' : 'sudo '}${command}`;
  if (findProgram('apt-get') === undefined) {
    throw new PrerequisiteError(`${programs} not found, and there is no apt-get here; ${byHand} or its like`);
  }
  if (process.getuid?.() !== 0) throw new PrerequisiteError(`${programs} not found; ${byHand}`);
  progress(`installing ${packages.join(', ')} from Debian (${programs} not found)`);
  try {
    await apt(['install', '-y', '--no-install-recommends', ...packages]).catch(async () => {
      progress('updating the package lists');
      await apt(['update']);
      await apt(['install', '-y', '--no-install-recommends', ...packages]);
    });
  } catch (cause) {
    const detail = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause);
    throw new PrerequisiteError(`could not install ${packages.join(', ')}; ${byHand}\n${detail}`, { cause });
  }
  await stopServices(packages);
  const still = requirements.filter(({ program }) => findProgram(program) === undefined);
  if (still.length > 0) throw new PrerequisiteError(`${programs} still not found after ${command}`);
}

/** Root alone is not enough in a container without the right capabilities: tries it. */
export async function checkNamespaces(): Promise<void> {
  const name = `mv-probe-${process.pid}`;
  try {
    await ip('netns', 'add', name);
    await ip('netns', 'del', name);
  } catch (cause) {
    const why = 'this root may not make network namespaces; a container needs --privileged';
    throw new PrerequisiteError(`${why}\n${String(cause)}`, { cause });
  }
}

/**
 * Debian starts a package's service with its installation. The cluster runs private instances, so services that came
 * with what was installed here are switched off again: they would keep ports open that nobody asked for.
 */
async function stopServices(packages: readonly string[]): Promise<void> {
  if (!existsSync('/run/systemd/system')) return;
  for (const service of ['nats-server', 'prometheus'].filter((name) => packages.includes(name))) {
    await run('systemctl', ['disable', '--now', service]).catch(() => undefined);
  }
}

function apt(args: readonly string[]): Promise<unknown> {
  const env = { ...process.env, PATH: completePath(), DEBIAN_FRONTEND: 'noninteractive' };
  return run('apt-get', [...args], { env, timeout: APT_TIMEOUT_MS, maxBuffer: 2 ** 24 });
}
