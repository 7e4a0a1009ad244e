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

function demand(reason: string | false): string | false {
  if (reason !== false && process.env.REQUIRE_ALL === '1') throw new Error(`REQUIRE_ALL=1, but this test ${reason}`);
  return reason;
}
