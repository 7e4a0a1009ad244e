import { readFileSync } from 'node:fs';

/** USER_HZ, the unit of times in /proc/<pid>/stat: 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Fields 14 and 15, utime and stime, counted behind the command name, which may hold blanks and brackets. */
const USER_TIME_INDEX = 14 - 3;
const CHILDREN_USER_TIME_INDEX = 16 - 3;

/** Seconds of CPU that a running process has used in all its threads, its ended children aside. */
export function cpuSeconds(pid: number): number {
  return ticks(pid, USER_TIME_INDEX) / TICKS_PER_SECOND;
}

/** Seconds of CPU that the ended children of a running process have used. */
export function endedChildrenCpuSeconds(pid: number): number {
  return ticks(pid, CHILDREN_USER_TIME_INDEX) / TICKS_PER_SECOND;
}

/** Of the field and the next, which is the same in the kernel. */
function ticks(pid: number, index: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[index]) + Number(fields[index + 1]);
}

/** Bytes of memory that a process has in RAM. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}
