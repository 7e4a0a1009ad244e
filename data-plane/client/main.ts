import { lookup } from 'node:dns/promises';
import { ConfigError, EXIT_BAD_CONFIG, formatHostPort } from '../../shared/config/parse-config.ts';
import { describeError } from '../../shared/errors.ts';
import type { TrafficTotals } from '../../shared/events/node-events.ts';
import { createLogger, redactUrl } from '../../shared/log/logger.ts';
import { PacketThread } from '../packet-thread/packet-thread.ts';
import { Backoff } from './backoff.ts';
import type { ClientThreadCommand, ClientThreadReport, TunnelConfiguration } from './client-messages.ts';
import { CLIENT_USAGE, type ClientConfig, parseClientConfig } from './config.ts';
import { type ClientStatus, writeStatusFile } from './status-file.ts';

const STATUS_INTERVAL_MS = 1_000;
/** After a stop was asked for, how long the tunnel's clean end may take. */
const STOP_TIMEOUT_MS = 3_000;
const EXIT_FAILED = 1;

await run();

async function run(): Promise<void> {
  let config: ClientConfig | undefined;
  try {
    config = parseClientConfig(process.argv.slice(2), process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`masque-vpn client: ${error.message}\n`);
    process.exitCode = EXIT_BAD_CONFIG;
    return;
  }
  if (config === undefined) process.stdout.write(CLIENT_USAGE);
  else await runClient(config);
}

async function runClient(config: ClientConfig): Promise<void> {
  const log = createLogger('client', config.logLevel);
  const backoff = new Backoff();
  const state = {
    state: 'connecting' as ClientStatus['state'],
    tun: config.tun,
    configuration: { addresses: [], routes: [] } as TunnelConfiguration,
    connects: 0,
    totals: { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 } as TrafficTotals,
    lastError: null as string | null,
  };
  let stopping = false;
  let lastAddress: string | undefined;
  let retry: NodeJS.Timeout | undefined;

  const writeStatus = (): void => {
    if (config.statusFile === undefined) return;
    writeStatusFile(config.statusFile, {
      state: state.state,
      url: redactUrl(config.url.href),
      tun: state.tun,
      addresses: state.configuration.addresses,
      mtu: config.mtu,
      connects: state.connects,
      bytesSent: state.totals.bytesIn,
      bytesReceived: state.totals.bytesOut,
      packetsSent: state.totals.packetsIn,
      packetsReceived: state.totals.packetsOut,
      lastError: state.lastError,
    });
  };

  /** The way to the resolver may lead into the tunnel that is down: the address that worked is better than none. */
  const addressOf = async (host: string): Promise<string> => {
    try {
      lastAddress = (await lookup(host)).address;
    } catch (error) {
      if (lastAddress === undefined) throw error;
      log.warn({ host, why: describeError(error) }, 'the name cannot be looked up, using its last address');
    }
    return lastAddress;
  };

  const connect = async (): Promise<void> => {
    state.state = 'connecting';
    try {
      const { host, port } = config.connectTo;
      const address = await addressOf(host);
      thread.post({
        type: 'connect',
        options: {
          url: config.url.href,
          token: config.token,
          ca: config.ca,
          certificate: config.certificate,
          serverAddress: formatHostPort({ host: address, port }),
          routes: config.routes,
        },
      });
    } catch (error) {
      connectLater(describeError(error));
    }
  };

  const connectLater = (why: string): void => {
    state.state = 'connecting';
    state.lastError = why;
    if (stopping) return;
    const waitMs = backoff.next(Math.random());
    log.warn({ why, waitMs: Math.round(waitMs) }, 'no tunnel, trying again');
    retry = setTimeout(() => void connect(), waitMs);
  };

  const onReport = (report: ClientThreadReport): void => {
    switch (report.type) {
      case 'ready':
        state.tun = report.tun;
        void connect();
        return;
      case 'configured':
        if (state.state !== 'connected') state.connects++;
        state.state = 'connected';
        state.configuration = report.configuration;
        state.lastError = null;
        backoff.reset();
        log.info({ ...report.configuration, tun: state.tun }, 'tunnel is open');
        writeStatus();
        return;
      case 'ended':
        connectLater(report.reason);
        return;
      case 'counters':
        state.totals = report.totals;
        return;
      case 'fatal':
        state.lastError = report.message;
        log.fatal({ code: report.code }, report.message);
        process.exitCode = EXIT_FAILED;
        return;
      default:
        report satisfies never;
    }
  };

  const thread = new PacketThread<ClientThreadCommand, ClientThreadReport>(
    new URL('./client-thread.ts', import.meta.url),
    { tun: config.tun, mtu: config.mtu },
    onReport,
  );
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    clearTimeout(retry);
    thread.post({ type: 'stop' });
    setTimeout(() => process.exit(EXIT_FAILED), STOP_TIMEOUT_MS).unref();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  const status = setInterval(writeStatus, STATUS_INTERVAL_MS);

  await thread.ended;
  clearInterval(status);
  clearTimeout(retry);
  state.state = 'closed';
  writeStatus();
}
