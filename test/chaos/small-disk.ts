import { execFile } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { discharge, entrust, type Leftover } from '../../deploy/local/janitor.ts';

const run = promisify(execFile);
const CHUNK_BYTES = 64 * 1024;

/** A disk of a few megabytes, in memory, that can be filled. Needs root. */
export class SmallDisk {
  readonly directory: string;
  readonly #leftover: Leftover;

  private constructor(directory: string) {
    this.directory = directory;
    this.#leftover = { kind: 'mount', path: directory };
  }

  static async mount(directory: string, megabytes: number): Promise<SmallDisk> {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const disk = new SmallDisk(directory);
    entrust(disk.#leftover);
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'masque-vpn-test', directory]);
    return disk;
  }

  /** Until nothing more can be written. */
  fill(): void {
    const file = openSync(this.#ballast, 'w');
    try {
      for (let bytes = CHUNK_BYTES; bytes >= 1; ) {
        try {
          if (writeSync(file, Buffer.alloc(bytes)) < bytes) bytes >>= 1;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          bytes >>= 1;
        }
      }
    } finally {
      closeSync(file);
    }
  }

  empty(): void {
    rmSync(this.#ballast, { force: true });
  }

  async unmount(): Promise<void> {
    await run('umount', ['--lazy', this.directory]);
    discharge(this.#leftover);
  }

  get #ballast(): string {
    return join(this.directory, 'ballast');
  }
}
