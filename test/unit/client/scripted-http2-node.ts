import {
  createSecureServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type SecureServerOptions,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { Http2Client } from '../../../data-plane/client/http2-client.ts';
import { closeQuietly, read, write } from '../../../data-plane/os/libc.ts';
import type { TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';

const TIMEOUT_MS = 10_000;
const READ_BYTES = 65_536;

export interface Http2ScriptOptions {
  readonly url?: string;
  /** PEM of the authority that the client trusts; that of the certificate by default. */
  readonly ca?: string;
  readonly certificate?: { readonly cert: string; readonly key: string };
  readonly server?: SecureServerOptions;
}

/** Our client's connection over TCP of this machine, a server behind a relay that answers as the test says, and the test in place of the packet thread. */
export class ScriptedHttp2Node {
  readonly client: Http2Client;
  readonly failures: string[] = [];
  /** Requests that came. */
  readonly requests: { readonly stream: ServerHttp2Stream; readonly headers: IncomingHttpHeaders }[] = [];
  readonly sessions: ServerHttp2Session[] = [];
  readonly #server: Http2SecureServer;
  readonly #relay: Server;
  readonly #sockets = new Set<Socket>();
  ready = false;
  /** The packet thread's end, once the tunnel is open. */
  fd: number | undefined;

  private constructor(server: Http2SecureServer, relay: Server, pem: TestCertificate, options: Http2ScriptOptions) {
    this.#server = server;
    this.#relay = relay;
    relay.on('connection', (near) => {
      const far = connect((server.address() as AddressInfo).port, '127.0.0.1').setNoDelay();
      for (const socket of [near, far]) this.#sockets.add(socket.on('error', () => {}));
      near.pipe(far).pipe(near);
    });
    server.on('session', (session) => this.sessions.push(session));
    server.on('stream', (stream: ServerHttp2Stream, headers) => {
      stream.on('error', () => {});
      this.requests.push({ stream, headers });
    });
    const { url = 'https://node-a.test/', ca = pem.ca, certificate } = options;
    const serverAddress = `127.0.0.1:${(relay.address() as AddressInfo).port}`;
    this.client = new Http2Client(
      { url, token: 'secret-token', ca, certificate, serverAddress },
      {
        onReady: () => {
          this.ready = true;
        },
        onOpen: (fd) => {
          this.fd = fd;
        },
        onFailed: (reason) => this.failures.push(reason),
      },
    );
  }

  static async start(pem: TestCertificate, options: Http2ScriptOptions = {}): Promise<ScriptedHttp2Node> {
    const settings = { enableConnectProtocol: true };
    const server = createSecureServer({ cert: pem.cert, key: pem.key, settings, ...options.server });
    const relay = createServer({ noDelay: true });
    for (const one of [server, relay]) await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
    return new ScriptedHttp2Node(server, relay, pem, options);
  }

  /** Until the request has come, which the client sends once it could. */
  async request(): Promise<ServerHttp2Stream> {
    await this.until(() => this.ready, 'readiness');
    this.client.sendRequest();
    await this.until(() => this.requests.length > 0, 'the request');
    return this.stream;
  }

  /** A whole open tunnel. */
  async open(): Promise<ServerHttp2Stream> {
    const stream = await this.request();
    stream.respond({ ':status': 200, 'capsule-protocol': '?1' });
    await this.until(() => this.fd !== undefined, 'the tunnel');
    return stream;
  }

  /** Nothing of the server comes through any more, or goes to it. */
  silence(): void {
    for (const socket of this.#sockets) socket.unpipe().pause();
  }

  get stream(): ServerHttp2Stream {
    const stream = this.requests[0]?.stream;
    if (stream === undefined) throw new Error('no request yet');
    return stream;
  }

  /** The reason of the attempt that fails. */
  async failure(): Promise<string> {
    await this.until(() => this.failures.length > 0, 'the failure');
    return this.failures.join();
  }

  // --- in place of the packet thread

  write(bytes: Uint8Array): number {
    return write(this.fd ?? -1, bytes, bytes.length);
  }

  /** What there is to read; undefined at the end. */
  read(): Buffer | undefined {
    const room = Buffer.alloc(READ_BYTES);
    const length = read(this.fd ?? -1, room, room.length);
    return length === 0 ? undefined : room.subarray(0, Math.max(0, length));
  }

  closeChannel(): void {
    if (this.fd !== undefined) closeQuietly(this.fd);
    this.fd = undefined;
  }

  /** Reads over what comes until the end, and closes. */
  async channelEnd(): Promise<void> {
    await this.until(() => this.read() === undefined, 'the end of the channel');
    this.closeChannel();
  }

  until(done: () => unknown, what: string): Promise<unknown> {
    return waitFor(done, { timeoutMs: TIMEOUT_MS, intervalMs: 2, what });
  }

  async release(): Promise<void> {
    this.closeChannel();
    this.client.close();
    for (const socket of this.#sockets) socket.destroy();
    for (const one of [this.#relay, this.#server]) await new Promise((resolve) => one.close(resolve));
  }
}
