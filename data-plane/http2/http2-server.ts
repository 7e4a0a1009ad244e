import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import { formatHostPort, hostPort } from '../../shared/config/parse-config.ts';
import { CodedError, errorCode } from '../../shared/errors.ts';
import { listenProblem } from '../../shared/listen-problem.ts';
import { remoteParty } from '../ip/remote-party.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import type { WebState, WebThreadOptions } from '../web-thread/web-messages.ts';
import { SESSION_REMOTE_SETTINGS, SESSION_SETTINGS } from '../webtransport/session-opener.ts';
import { destroyLater } from './destroy-later.ts';
import { Http2Connection, type Http2ConnectionHost } from './http2-connection.ts';
import {
  HANDSHAKE_TIMEOUT_MS,
  MAX_ADVERTISED_STREAMS,
  MAX_DECODED_HEADER_BYTES,
  MAX_HANDSHAKES,
  MAX_HANDSHAKES_PER_PARTY,
  MAX_HEADER_FIELDS,
  STRANGER_WINDOW_BYTES,
  STREAM_END_TIMEOUT_MS,
} from './http2-limits.ts';

/** TLS over TCP with HTTP/2 for CONNECT-IP (RFC 8441, RFC 9484) or WebTransport sessions, and what all its connections together may cost. */
export class Http2Server {
  readonly #server: Http2SecureServer;
  readonly #host: Http2ConnectionHost;
  readonly #connections = new Set<Http2Connection>();
  readonly #sockets = new Set<Socket>();
  /** Who is in the middle of a handshake, by remote address and port. */
  readonly #handshakes = new Map<string, string>();
  #draining = false;
  #onDrained: (() => void) | undefined;

  constructor({ identity, maxConnections }: WebThreadOptions, host: Http2ConnectionHost) {
    this.#host = host;
    this.#server = createSecureServer({
      ...secureContext(identity),
      // Whether one is asked for does not change while the process runs: CLIENT_CA is there or not.
      requestCert: identity.clientCa !== undefined,
      rejectUnauthorized: identity.clientCa !== undefined,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      noDelay: true,
      maxHeaderListPairs: MAX_HEADER_FIELDS,
      ...(host.sessions !== undefined && { remoteCustomSettings: SESSION_REMOTE_SETTINGS }),
      settings: {
        ...(host.sessions !== undefined && SESSION_SETTINGS),
        enableConnectProtocol: true,
        enablePush: false,
        initialWindowSize: STRANGER_WINDOW_BYTES,
        maxConcurrentStreams: MAX_ADVERTISED_STREAMS,
        maxHeaderListSize: MAX_DECODED_HEADER_BYTES,
      },
    });
    this.#server.maxConnections = maxConnections;
    this.#server.on('drop', () => host.tunnels.limits.count('connections'));
    this.#server.prependListener('connection', (socket: Socket) => this.#accepted(socket));
    this.#server.on('secureConnection', (socket) => {
      this.#handshakes.delete(endpointOf(socket));
      // Node waits for the client's end when ours was said, which nobody else looks after: the session is gone then.
      socket.once('finish', () => destroyLater(socket, STREAM_END_TIMEOUT_MS));
    });
    // Strangers, scanners and broken connections: none of them has asked for anything yet.
    this.#server.on('tlsClientError', (error, socket) => {
      if (errorCode(error) === 'ERR_TLS_HANDSHAKE_TIMEOUT') host.tunnels.limits.count('handshake_time');
      socket.destroy();
    });
    this.#server.on('unknownProtocol', (socket) => socket.destroy());
    this.#server.on('session', (session) => this.#connected(session));
  }

  get state(): Pick<WebState, 'connections' | 'handshakes'> {
    return { connections: this.#sockets.size, handshakes: this.#handshakes.size };
  }

  /** Resolves with `ip:port`. Rejects with a CodedError that names the address. */
  listen(address: string): Promise<string> {
    const parsed = hostPort.parse(address);
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause) => {
        reject(new CodedError('LISTEN_FAILED', `cannot listen on TCP ${address}: ${listenProblem(cause)}`));
      });
      this.#server.listen({ host: parsed?.host, port: parsed?.port, ipv6Only: true }, () => {
        const { address: host, port } = this.#server.address() as AddressInfo;
        resolve(formatHostPort({ host, port }));
      });
    });
  }

  sweep(nowMs: number): void {
    for (const connection of this.#connections) connection.sweep(nowMs);
  }

  /** New connections get this identity, those that are there keep theirs. */
  renew(identity: TlsIdentity): void {
    this.#server.setSecureContext(secureContext(identity));
  }

  /** No new connections and requests: GOAWAY. What is open lives on. */
  announceDrain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#server.close();
    for (const connection of this.#connections) connection.drain();
  }

  /** The same; `onDrained` is called when the last connection has closed. */
  drain(onDrained: () => void): void {
    this.announceDrain();
    this.#onDrained = onDrained;
    this.#tellWhenDrained();
  }

  close(): void {
    this.#server.close();
    for (const connection of this.#connections) connection.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accepted(socket: Socket): void {
    const { remoteAddress } = socket;
    // It is gone already.
    if (!remoteAddress) {
      socket.destroy();
      return;
    }
    const party = remoteParty(remoteAddress);
    if (!this.#mayBegin(party)) {
      this.#host.tunnels.limits.count('handshakes');
      socket.destroy();
      return;
    }
    const endpoint = endpointOf(socket);
    this.#sockets.add(socket);
    this.#handshakes.set(endpoint, party);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#handshakes.delete(endpoint);
    });
  }

  #mayBegin(party: string): boolean {
    if (this.#handshakes.size >= MAX_HANDSHAKES) return false;
    let own = 0;
    for (const other of this.#handshakes.values()) if (other === party) own++;
    return own < MAX_HANDSHAKES_PER_PARTY;
  }

  #connected(session: ServerHttp2Session): void {
    const { remoteAddress, remotePort } = session.socket;
    // It is gone already.
    if (remoteAddress === undefined || remotePort === undefined) return;
    const peer = { address: remoteAddress.replace(/%.*$/, ''), port: remotePort };
    const connection = new Http2Connection(session, peer, this.#host);
    this.#connections.add(connection);
    if (this.#draining) connection.drain();
    session.once('close', () => {
      this.#connections.delete(connection);
      this.#tellWhenDrained();
    });
  }

  #tellWhenDrained(): void {
    if (this.#connections.size === 0) this.#onDrained?.();
  }
}

function endpointOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

/** As over HTTP/3, which has no older TLS. */
function secureContext({ cert, key, clientCa }: TlsIdentity): SecureContextOptions {
  return { cert, key, minVersion: 'TLSv1.3', ...(clientCa !== undefined && { ca: clientCa }) };
}
