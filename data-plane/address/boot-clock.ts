import { readFileSync } from 'node:fs';

/**
 * CLOCK_MONOTONIC, milliseconds: it goes on counting while the process is restarted, and starts anew with the machine.
 * It stands still while the machine is suspended.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

/** Names the boot that `monotonicMs` counts from. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
