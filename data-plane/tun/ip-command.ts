import { execFileSync } from 'node:child_process';
import { CodedError, errorCode } from '../../shared/errors.ts';

/** Longest wait for one run of `ip` in ms (ours); it takes about 2. */
const IP_TIMEOUT_MS = 10_000;

/** `ip` of iproute2 is missing (IP_COMMAND_MISSING) or refused (IP_COMMAND_FAILED); the message has the command and what it said. */
export class IpCommandError extends CodedError {
  readonly command: string;
  readonly stderr: string;

  constructor(code: string, command: string, stderr: string, cause: unknown) {
    super(code, `${command}: ${stderr}`, { cause });
    this.command = command;
    this.stderr = stderr;
  }
}

/** Runs `ip <args>` and returns its output. It blocks for about 2 ms, so it is for configuration only. Throws IpCommandError. */
export function ipCommand(args: readonly string[]): string {
  const command = `ip ${args.join(' ')}`;
  try {
    return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: IP_TIMEOUT_MS });
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      throw new IpCommandError('IP_COMMAND_MISSING', command, 'the program is not installed (package iproute2)', error);
    }
    throw new IpCommandError('IP_COMMAND_FAILED', command, stderrOf(error), error);
  }
}

function stderrOf(error: unknown): string {
  const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  return stderr === '' ? `no answer (${errorCode(error) ?? 'failed'})` : stderr.replaceAll('\n', '; ');
}
