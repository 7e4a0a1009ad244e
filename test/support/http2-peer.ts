import { type ClientHttp2Session, type ClientHttp2Stream, type ClientSessionOptions, connect } from 'node:http2';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { buildConnectIpRequest } from '../../data-plane/masque/build-connect-ip-request.ts';
import { encodeDatagramCapsule } from '../../data-plane/masque/datagram-capsule.ts';
import { hostPort } from '../../shared/config/parse-config.ts';
import { ClientEnd } from './client-end.ts';
import { type PeerTarget, RefusedError } from './test-peer.ts';
import type { TunnelEnd } from './tunnel-end.ts';
import { waitFor } from './wait-for.ts';

const TIMEOUT_MS = 15_000;

/** One request stream of a peer, and the tunnel that it became. */
export class Http2PeerStream extends ClientEnd implements TunnelEnd {
  readonly stream: ClientHttp2Stream;
  status = 0;
  fields: Readonly<Record<string, unknown>> = {};
  /** The node has ended its side, without a reset. */
  ended = false;
  /** The code that the stream closed with. */
  closed: number | undefined;

  constructor(stream: ClientHttp2Stream) {
    super();
    this.stream = stream;
    stream.on('response', ({ ':status': status = 0, ...fields }) => {
      this.status = Number(status);
      this.fields = fields;
    });
    stream.on('data', (bytes: Buffer) => this.receiveContent(bytes));
    stream.on('end', () => {
      this.ended = !stream.closed;
    });
    // Told by `closed`.
    stream.on('error', () => {});
    stream.on('close', () => {
      this.closed = stream.rstCode;
    });
  }

  /** Content as it is. */
  raw(bytes: Uint8Array): void {
    this.stream.write(bytes);
  }

  packet(bytes: Uint8Array): void {
    const payload = new Uint8Array(1 + bytes.length);
    payload.set(bytes, 1);
    this.raw(encodeDatagramCapsule(payload));
  }

  until(done: () => unknown, what: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return waitFor(done, { timeoutMs, intervalMs: 3, what });
  }
}

/** TLS to the node's TCP port, with HTTP/2 as the protocol that is offered unless the test says otherwise. */
export function connectNodeTls(
  target: PeerTarget,
  changes: { alpn?: string[]; cert?: string; key?: string } = {},
): TLSSocket {
  const { host, port } = hostPort.parse(target.server) ?? { host: '', port: 0 };
  const { server: _server, serverName: servername, ca, from: localAddress } = target;
  const { alpn = ['h2'], ...certificate } = changes;
  const options: ConnectionOptions & { localAddress: string } = {
    host,
    port,
    localAddress,
    servername,
    ca,
    ALPNProtocols: alpn,
    ...certificate,
  };
  const socket = connectTls(options);
  // Told by its end.
  return socket.on('error', () => {});
}

/** A client of a node over HTTP/2 that does what a test tells it, without a TUN device. */
export class Http2Peer {
  readonly session: ClientHttp2Session;
  /** How the node said goodbye: the code of its GOAWAY. */
  goaway: number | undefined;
  closed = false;
  readonly #serverName: string;

  private constructor(target: PeerTarget, socket: TLSSocket, settings: ClientSessionOptions['settings']) {
    this.#serverName = target.serverName;
    this.session = connect(`https://${target.serverName}`, {
      createConnection: () => socket,
      ...(settings && { settings }),
    });
    this.session.on('goaway', (code) => {
      this.goaway = code;
    });
    this.session.on('error', () => {});
    this.session.on('close', () => {
      this.closed = true;
    });
    // A peer that a failed test forgot must not keep the test's process alive.
    this.session.unref();
  }

  /** Connects, and waits for the node's SETTINGS. */
  static async connect(target: PeerTarget, settings?: ClientSessionOptions['settings']): Promise<Http2Peer> {
    const peer = new Http2Peer(target, connectNodeTls(target), settings);
    let settled = false;
    peer.session.once('remoteSettings', () => {
      settled = true;
    });
    await peer.until(() => settled || peer.closed, 'the SETTINGS of the node');
    return peer;
  }

  /** Connects and opens a tunnel. Throws RefusedError. */
  static async open(target: PeerTarget, token: string): Promise<{ peer: Http2Peer; tunnel: Http2PeerStream }> {
    const peer = await Http2Peer.connect(target);
    const tunnel = await peer.request(token);
    if (tunnel.status !== 200) {
      peer.close();
      throw new RefusedError(tunnel.status);
    }
    await peer.until(() => tunnel.assigned.length > 0 && tunnel.routes !== undefined, 'the assignments');
    return { peer, tunnel };
  }

  /** Sends a CONNECT-IP request; does not wait. */
  send(token: string | undefined, changes: Readonly<Record<string, string>> = {}): Http2PeerStream {
    const request = buildConnectIpRequest(`https://${this.#serverName}`, token);
    const headers = {
      ':method': request.method,
      ':protocol': request.protocol,
      ':scheme': request.scheme,
      ':authority': request.authority,
      ':path': request.path,
      ...Object.fromEntries(request.fields),
      ...changes,
    };
    return new Http2PeerStream(this.session.request(headers, { endStream: false }));
  }

  /** A CONNECT-IP request of this token, once it has an answer; the status is 0 when it was reset instead. */
  async request(token: string | undefined, changes: Readonly<Record<string, string>> = {}): Promise<Http2PeerStream> {
    const stream = this.send(token, changes);
    await this.until(() => stream.status > 0 || stream.closed !== undefined || this.closed, 'an answer');
    return stream;
  }

  until(done: () => unknown, what: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return waitFor(done, { timeoutMs, intervalMs: 3, what });
  }

  /** Says goodbye. */
  close(): void {
    this.session.destroy();
  }
}
