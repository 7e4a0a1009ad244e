import { connect, type NatsConnection } from 'nats';
import { describeError } from '../errors.ts';
import type { Logger } from '../log/logger.ts';
import { endAbandonedDials } from './abandoned-dials.ts';

endAbandonedDials();

/** Between attempts to reach a server that is away. */
const RECONNECT_WAIT_MS = 500;
/** A silent connection is noticed after two missed pings. */
const PING_INTERVAL_MS = 5_000;
/** One line for this many failed attempts. */
const LOG_EVERY_FAILURES = 20;

/**
 * Connects to NATS and keeps trying, at the start too, until the signal aborts: a server that is away is a matter of
 * waiting. User and password come from the URL and go nowhere else.
 */
export async function connectNats(
  url: string,
  name: string,
  log: Logger,
  signal: AbortSignal,
  inboxPrefix?: string,
): Promise<NatsConnection> {
  const { protocol, host, username, password } = new URL(url);
  let failures = 0;
  for (;;) {
    signal.throwIfAborted();
    try {
      const connection = await connect({
        servers: host,
        name,
        ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
        ...(protocol === 'tls:' ? { tls: {} } : {}),
        ...(username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) }),
        maxReconnectAttempts: -1,
        // Else the connection is closed for good when the password is wrong twice, as while it is being changed.
        ignoreAuthErrorAbort: true,
        reconnectTimeWait: RECONNECT_WAIT_MS,
        pingInterval: PING_INTERVAL_MS,
        // Else each request takes a stack trace, in case that it fails.
        noAsyncTraces: true,
        timeout: PING_INTERVAL_MS,
      });
      void logStatus(connection, host, log);
      return connection;
    } catch (error) {
      if (failures++ % LOG_EVERY_FAILURES === 0) {
        log.warn({ server: host }, `NATS is not reachable, retrying: ${describeError(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_WAIT_MS));
    }
  }
}

async function logStatus(connection: NatsConnection, server: string, log: Logger): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type === 'disconnect') log.warn({ server }, 'NATS connection lost');
    if (status.type === 'reconnect') log.info({ server }, 'NATS connection is back');
  }
}
