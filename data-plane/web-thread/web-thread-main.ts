import { parentPort, workerData } from 'node:worker_threads';
import { describeError, errorCode } from '../../shared/errors.ts';
import { Http2Server } from '../http2/http2-server.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import { connectionFailure } from '../tunnel/connection-failure.ts';
import { loadWebTransport } from '../webtransport/load-package.ts';
import { SessionOpener } from '../webtransport/session-opener.ts';
import type { WebThreadCommand, WebThreadOptions, WebThreadReport } from './web-messages.ts';
import { WebTunnels } from './web-tunnels.ts';

/** How often silent and idle connections are looked for, and the state is told. */
const SWEEP_INTERVAL_MS = 1_000;

/** The node's web thread: what runs on libuv, which a packet thread never does, and reaches tunnels by byte channels. */
async function main(): Promise<void> {
  const options = workerData as WebThreadOptions;
  const report = (message: WebThreadReport): void => parentPort?.postMessage(message);
  const tunnels = new WebTunnels(report);
  try {
    const sessions = options.service === 'webtransport' ? await openSessions(options.identity, report) : undefined;
    const server = new Http2Server(options, {
      tunnels,
      sessions,
      failed: (peer, status, reason) => report(connectionFailure(peer.address, status, reason)),
    });
    const listen = await server.listen(options.listen);
    const timer = setInterval(() => {
      server.sweep(performance.now());
      report({ type: 'state', ...server.state });
    }, SWEEP_INTERVAL_MS);
    parentPort?.on('message', (command: WebThreadCommand) => {
      switch (command.type) {
        case 'renewIdentity':
          server.renew(command.identity);
          return;
        case 'announceDrain':
          server.announceDrain();
          return;
        case 'drain':
          server.drain(() => report({ type: 'drained' }));
          return;
        case 'stop':
          clearInterval(timer);
          server.close();
          parentPort?.close();
          return;
        default:
          tunnels.command(command);
      }
    });
    report({ type: 'ready', listen });
  } catch (error) {
    report({ type: 'fatal', code: errorCode(error) ?? 'WEB_THREAD', message: describeError(error) });
  }
}

async function openSessions({ cert, key }: TlsIdentity, report: (message: WebThreadReport) => void) {
  const loaded = await loadWebTransport();
  report({ type: 'webTransportLoaded', http3Problem: loaded.http3Problem });
  return SessionOpener.create(loaded, cert, key);
}

await main();
