import { readFileSync } from 'node:fs';

/** USER_HZ, the unit of times in /proc/<pid>/stat: 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Fields 14 and 15, utime and stime, counted behind the command name, which may hold blanks and brackets. */
const USER_TIME_INDEX = 14 - 3;

/** Seconds of CPU that a running process has used in all its threads, its ended children aside. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[USER_TIME_INDEX]) + Number(fields[USER_TIME_INDEX + 1])) / TICKS_PER_SECOND;
}

/** Bytes of memory that a process has in RAM. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}
