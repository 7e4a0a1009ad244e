import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

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
        : !isOnPath('ip')
          ? 'needs the program ip (Debian package iproute2)'
          : false;
  return demand(reason);
}

/** The same for a program, e.g. `needsBinary('nats-server', 'nats-server')`. */
export function needsBinary(name: string, debianPackage: string): string | false {
  return demand(isOnPath(name) ? false : `needs the program ${name} (Debian package ${debianPackage})`);
}

function demand(reason: string | false): string | false {
  if (reason !== false && process.env.REQUIRE_ALL === '1') throw new Error(`REQUIRE_ALL=1, but this test ${reason}`);
  return reason;
}

function isOnPath(name: string): boolean {
  // Debian keeps some programs of root's in sbin, which is not on every PATH.
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return directories.some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
