import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { findProgram } from '../../deploy/local/find-program.ts';

/**
 * What `skip` of node:test takes: a reason to skip a test that needs root, TUN devices and network namespaces, or false.
 * Under REQUIRE_ALL=1 a missing piece is an error instead.
 */
export function needsRoot(): string | false {
  const reason =
    process.getuid?.() !== 0
      ? 'needs root'
      : !existsSync('/dev/net/tun')
        ? 'needs /dev/net/tun'
        : !findProgram('ip')
          ? 'needs the program ip (Debian package iproute2)'
          : false;
  return demand(reason);
}

/** The same for a program, e.g. `needsBinary('nats-server', 'nats-server')`. */
export function needsBinary(name: string, debianPackage: string): string | false {
  return demand(findProgram(name) ? false : `needs the program ${name} (Debian package ${debianPackage})`);
}

/** From this version on, Go loads the newer one that a module asks for. */
const MIN_GO_MINOR = 21;
const NO_GO = `needs Go 1.${MIN_GO_MINOR} or newer`;

/** The same for Go, but never an error: only tests need it, and not every Debian has one that is new enough. */
export function needsGo(): string | false {
  const go = findProgram('go');
  if (go === undefined) return NO_GO;
  const version = execFileSync(go, ['env', 'GOVERSION'], {
    encoding: 'utf8',
    env: { ...process.env, GOTOOLCHAIN: 'local' },
  });
  const [, major, minor] = /^go(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(major) > 1 || Number(minor) >= MIN_GO_MINOR ? false : NO_GO;
}

/** Whether REQUIRE_ALL=1 lets this skip pass: that of a test that needs Go where there is none. */
export function isAllowedSkip(reason: string): boolean {
  return reason === NO_GO;
}

function demand(reason: string | false): string | false {
  if (reason !== false && process.env.REQUIRE_ALL === '1') throw new Error(`REQUIRE_ALL=1, but this test ${reason}`);
  return reason;
}
