import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Outcome } from '../config/run-process.ts';

export const ADMIN = join(import.meta.dirname, '../../../control-plane/admin/main.ts');

export interface AdminProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
}

/** `npm run admin -- ...args` on a database, as a process that can be killed. */
export function startAdmin(databaseUrl: string, args: readonly string[]): AdminProcess {
  const env = { PATH: process.env.PATH ?? '', DATABASE_URL: databaseUrl };
  const child = spawn(process.execPath, [ADMIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk) => (stdout += chunk));
  child.stderr?.on('data', (chunk) => (stderr += chunk));
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
  return { child, ended };
}

/** Runs it to its end. */
export function runAdmin(databaseUrl: string, args: readonly string[]): Promise<Outcome> {
  return startAdmin(databaseUrl, args).ended;
}
