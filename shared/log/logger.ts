import { type Logger, pino } from 'pino';

export type { Logger };

/** Names under which a secret could travel; their values never reach a log line. */
const SECRET_PATHS = ['token', 'authorization', 'password', 'adminToken', '*.token', '*.authorization', '*.password'];

/**
 * The process's logger: one JSON line an entry on standard error, so that standard output stays for results.
 * `LOG_LEVEL` is one of pino's levels or `silent`.
 */
export function createLogger(name: string, level: string): Logger {
  return pino({ name, level, redact: SECRET_PATHS }, pino.destination({ fd: 2, sync: true }));
}

/** A URL for people and logs: user, password and query are left out, because they can carry secrets. */
export function redactUrl(url: string): string {
  try {
    const parsed = new URL(url);
    return `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
  } catch {
    return '(not a URL)';
  }
}
