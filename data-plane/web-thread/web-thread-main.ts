import { parentPort, workerData } from 'node:worker_threads';
import { describeError, errorCode } from '../../shared/errors.ts';
import { Http2Server } from '../http2/http2-server.ts';
import { connectionFailure } from '../tunnel/connection-failure.ts';
import { type LoadedPackage, loadWebTransport } from '../webtransport/load-package.ts';
import { PackageServer, type PackageServerHost } from '../webtransport/package-server.ts';
import { SessionOpener } from '../webtransport/session-opener.ts';
import type { WebThreadCommand, WebThreadOptions, WebThreadReport } from './web-messages.ts';
import { type RemotePeer, WebTunnels } from './web-tunnels.ts';

/** How often silent and idle connections are looked for, and the state is told. */
const SWEEP_INTERVAL_MS = 1_000;

/** The node's web thread: what runs on libuv, which a packet thread never does, and reaches tunnels by byte channels. */
async function main(): Promise<void> {
  const options = workerData as WebThreadOptions;
  const report = (message: WebThreadReport): void => parentPort?.postMessage(message);
  const tunnels = new WebTunnels(report, options.start);
  try {
    const { service, identity, authorities } = options;
    const failed = (peer: RemotePeer, status: number, reason: string): void =>
      report(connectionFailure(peer.address, status, reason));
    const loaded = service === 'webtransport' ? await loadWebTransport() : undefined;
    const sessions = loaded && (await SessionOpener.create(loaded, identity.cert, identity.key));
    const server = new Http2Server(options, { tunnels, sessions, authorities, failed });
    const listen = await server.listen(options.listen);
    const native = loaded && (await startNative(loaded, { ...options, listen }, { tunnels, authorities, failed }));
    if (native !== undefined) report({ type: 'webTransportLoaded', http3Problem: native.problem });
    const timer = setInterval(() => {
      server.sweep(performance.now());
      const { limits, drops } = tunnels;
      report({ type: 'state', ...server.state, limits: limits.snapshot(), drops: drops.snapshot() });
    }, SWEEP_INTERVAL_MS);
    parentPort?.on('message', (command: WebThreadCommand) => {
      switch (command.type) {
        case 'renewIdentity':
          server.renew(command.identity);
          native?.server?.renew(command.identity);
          return;
        case 'announceDrain':
          server.announceDrain();
          native?.server?.announceDrain();
          return;
        case 'drain':
          native?.server?.announceDrain();
          server.drain(() => report({ type: 'drained' }));
          return;
        case 'stop':
          clearInterval(timer);
          server.close();
          native?.server?.close();
          parentPort?.close();
          return;
        default:
          tunnels.command(command);
      }
    });
    report({ type: 'ready', listen });
  } catch (error) {
    report({
      type: 'fatal',
      code: errorCode(error) ?? 'WEB_THREAD',
      message: error instanceof Error ? error.message : String(error),
    });
  }
}

/** Sessions over HTTP/3 on the UDP port of the same number, where the package can: what it brings is no reason to fail. */
async function startNative(
  { webTransport, http3Problem }: LoadedPackage,
  options: WebThreadOptions,
  host: PackageServerHost,
): Promise<{ readonly server?: PackageServer; readonly problem: string | null }> {
  if (http3Problem !== null) return { problem: http3Problem };
  try {
    return { server: await PackageServer.listen(webTransport.Http3Server, options, host), problem: null };
  } catch (error) {
    return { problem: describeError(error) };
  }
}

await main();
