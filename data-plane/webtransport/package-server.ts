import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { HttpServer, WebTransportSession } from '@fails-components/webtransport';
import { hostPort } from '../../shared/config/parse-config.ts';
import { CodedError } from '../../shared/errors.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import { decideTunnelRequest } from '../tunnel/decide-tunnel-request.ts';
import type { RemotePeer, WebTunnel, WebTunnels } from '../web-thread/web-tunnels.ts';
import { SessionCapsules } from './session-capsules.ts';
import { SessionChannel } from './session-channel.ts';

const PATH = '/';
const SERVICE_UNAVAILABLE = 503;
/** To open a socket; the package may say nothing where it cannot. */
const READY_TIMEOUT_MS = 5_000;
const UPGRADES = ['webtransport'];
/** From the answer to the session that the package makes of it; a client that left makes none. */
const OPEN_TIMEOUT_MS = 10_000;
/** Its datagrams are not to be waited for, and how a session ended is told by the session alone. */
const CARRIER = { room: undefined, closed: true };

export interface PackageServerHost {
  readonly tunnels: WebTunnels;
  /** The names that requests may be made to; any where there are none. */
  readonly authorities: readonly string[];
  failed(peer: RemotePeer, status: number, reason: string): void;
}

export interface PackageServerOptions {
  /** `ip:port`. */
  readonly listen: string;
  readonly identity: TlsIdentity;
  readonly maxConnections: number;
}

/** What a session request is answered with, as the package wants it. */
interface Answer {
  readonly status: number;
  readonly path?: string;
  readonly userData?: { open(session: WebTransportSession): void };
}

type Header = Readonly<Record<string, string | undefined>>;

/**
 * Sessions on a server of the package that listens itself: its Http3Server, which has a native transport. Browsers need it less since the node
 * speaks HTTP/3 itself; it is for clients that want the package at both ends.
 */
export class PackageServer {
  readonly #server: HttpServer;
  readonly #host: PackageServerHost;
  /** Who asks, by the header of the request, which is all that the package hands over. */
  readonly #peers = new WeakMap<object, RemotePeer>();
  #draining = false;

  private constructor(server: HttpServer, host: PackageServerHost) {
    this.#server = server;
    this.#host = host;
    const receive = server.onSessionRequest.bind(server);
    server.onSessionRequest = (request) => {
      this.#peers.set(request.header, parsePeer(request.peerAddress));
      receive(request);
    };
    server.setRequestCallback(({ header }: { header: Header }) => this.#decide(header));
  }

  /** Resolves when it listens. Rejects with what the package says. */
  static async listen(
    Server: new (init: ConstructorParameters<typeof HttpServer>[0]) => HttpServer,
    { listen, identity, maxConnections }: PackageServerOptions,
    host: PackageServerHost,
  ): Promise<PackageServer> {
    const address = hostPort.parse(listen);
    const server = new Server({
      host: address?.host ?? '',
      port: address?.port ?? 0,
      secret: randomBytes(16).toString('hex'),
      cert: identity.cert,
      privKey: identity.key,
      maxConnections,
    } as ConstructorParameters<typeof HttpServer>[0]);
    await server.createTransportInt();
    server.startServer();
    const packageServer = new PackageServer(server, host);
    const late = delay(READY_TIMEOUT_MS, undefined, { ref: false }).then(() => {
      throw new CodedError('LISTEN_FAILED', `the package does not listen on ${listen} after ${READY_TIMEOUT_MS} ms`);
    });
    late.catch(() => {});
    await Promise.race([server.ready, late]);
    void packageServer.#take();
    return packageServer;
  }

  get port(): number | undefined {
    return this.#server.address()?.port;
  }

  renew({ cert, key }: TlsIdentity): void {
    this.#server.updateCert(cert, key, false);
  }

  /** No new sessions. */
  announceDrain(): void {
    this.#draining = true;
  }

  close(): void {
    this.#server.stopServer();
  }

  async #decide(header: Header): Promise<Answer> {
    const peer = this.#peers.get(header) ?? { address: '', port: 0 };
    const fields = Object.entries(header).flatMap(([name, value]): [string, string][] =>
      name.startsWith(':') || typeof value !== 'string' ? [] : [[name.toLowerCase(), value]],
    );
    const request = {
      method: 'CONNECT',
      scheme: 'https',
      protocol: 'webtransport',
      authority: header[':authority'] ?? '',
    };
    const { authorities } = this.#host;
    const decision = decideTunnelRequest({ ...request, path: header[':path'] ?? '', fields }, authorities, UPGRADES);
    if (decision.kind === 'rejected') return this.#refuse(peer, decision.status, decision.reason);
    if (this.#draining) return this.#refuse(peer, SERVICE_UNAVAILABLE, 'the node is draining');
    return new PackageTunnel(this.#host.tunnels, decision, peer).answer;
  }

  #refuse(peer: RemotePeer, status: number, reason: string): Answer {
    this.#host.failed(peer, status, reason);
    return { status };
  }

  async #take(): Promise<void> {
    for await (const session of this.#server.sessionStream(PATH, { noAutoPaths: true })) {
      (session.userData as Required<Answer>['userData']).open(session);
    }
  }
}

/** One request for a session, and its tunnel. */
class PackageTunnel implements WebTunnel {
  readonly transport = 'webtransport';
  readonly #answer = Promise.withResolvers<Answer>();
  readonly #tunnels: WebTunnels;
  #channel: SessionChannel | undefined;

  constructor(tunnels: WebTunnels, request: AcceptedRequest, peer: RemotePeer) {
    this.#tunnels = tunnels;
    tunnels.request(this, request, peer);
  }

  get answer(): Promise<Answer> {
    return this.#answer.promise;
  }

  accept(connectionId: string, socket: Socket): void {
    const channel = new SessionChannel(connectionId, socket, this.#tunnels);
    this.#channel = channel;
    const timer = setTimeout(() => {
      if (channel.leave()) this.#tunnels.lost(connectionId, 'client', 'left before the session was open');
    }, OPEN_TIMEOUT_MS);
    const open = (session: WebTransportSession): void => {
      clearTimeout(timer);
      const capsules = new SessionCapsules(session, CARRIER);
      channel.join(capsules);
      const end = (): void => capsules.endFromClient();
      session.closed.then(end, end);
    };
    this.#answer.resolve({ status: 200, path: PATH, userData: { open } });
  }

  reject(status: number): void {
    this.#answer.resolve({ status });
  }

  abort(errorCode: number): void {
    this.#channel?.abort(errorCode);
  }
}

/** `ip:port`, where an IPv6 address has no brackets. */
function parsePeer(text: string): RemotePeer {
  const at = text.lastIndexOf(':');
  return { address: text.slice(0, at).replace(/^\[|\]$|%.*$/g, ''), port: Number(text.slice(at + 1)) || 0 };
}
