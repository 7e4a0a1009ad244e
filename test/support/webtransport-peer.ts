import { type ClientHttp2Session, type ClientHttp2Stream, constants } from 'node:http2';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { H3_EXCESSIVE_LOAD, H3_MESSAGE_ERROR, H3_REQUEST_CANCELLED } from '../../data-plane/http3/error-codes.ts';
import { ClientEnd } from './client-end.ts';
import type { PeerTarget } from './test-peer.ts';
import type { RequestChanges, RequestUnderTest, StreamEnd, TransportUnderTest } from './transport-under-test.ts';
import { waitFor } from './wait-for.ts';
import { WebTransport } from './webtransport-client.ts';

const TIMEOUT_MS = 15_000;
const DEFAULT_PATH = '/.well-known/masque/ip/*/*/';

type Listener = (...args: unknown[]) => void;

/** Where nodes of tests take sessions over HTTP/2. */
export const SESSION_PORT = 4434;
export const SESSION_LISTEN = `0.0.0.0:${SESSION_PORT}`;

export const webTransportOverHttp2: TransportUnderTest = {
  id: 'webtransport-http2',
  name: 'webtransport',
  codes: { malformed: H3_MESSAGE_ERROR, excessive: H3_EXCESSIVE_LOAD, cancelled: H3_REQUEST_CANCELLED },
  request: (target, token, changes) => WebTransportPeer.request(target, token, changes),
};

/** The package's client as a client of the node, and what its API does not show of the answer to its request. */
export class WebTransportPeer extends ClientEnd implements RequestUnderTest {
  status = 0;
  #fields: Readonly<Record<string, unknown>> = {};
  /** The codes that the session was closed with, and its HTTP/2 stream. */
  #closeCode: number | undefined;
  #streamCode: number | undefined;
  #stream: ClientHttp2Stream | undefined;
  #content: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #datagrams: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #readers: Listener[] = [];
  readonly #session: InstanceType<typeof WebTransport>;

  private constructor({ server, ca }: PeerTarget) {
    super();
    setDefaultCACertificates([...getCACertificates('default'), ca]);
    const options = { forceReliable: true } as object;
    this.#session = new WebTransport(`https://${server.replace(/\d+$/, String(SESSION_PORT))}${DEFAULT_PATH}`, options);
    this.#session.ready.catch(() => {});
    this.#session.closed.then(
      ({ closeCode }: { closeCode: number }) => {
        this.#closeCode = closeCode;
      },
      () => {},
    );
  }

  /** Asks for a session on a connection of its own, and opens the stream of its capsules where the answer is 200. */
  static async request(
    target: PeerTarget,
    token: string | undefined,
    changes: RequestChanges = {},
  ): Promise<WebTransportPeer> {
    const peer = new WebTransportPeer(target);
    peer.#changeRequest({
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(changes.path !== undefined && { ':path': changes.path }),
      ...(changes.protocol !== undefined && { ':protocol': changes.protocol }),
    });
    await peer.until(() => peer.status > 0 || peer.#streamCode !== undefined, 'an answer');
    if (peer.status === 200) await peer.#openStream();
    return peer;
  }

  get ended(): StreamEnd | undefined {
    if (this.status === 200) return this.#closeCode === 0 ? 'end' : this.#closeCode;
    return this.#streamCode === constants.NGHTTP2_PROTOCOL_ERROR ? H3_MESSAGE_ERROR : this.#streamCode;
  }

  field(name: string): string | undefined {
    const value = this.#fields[name];
    return value === undefined ? undefined : String(value);
  }

  packet(bytes: Uint8Array): void {
    this.#datagrams?.write(Buffer.concat([Buffer.of(0), bytes])).catch(() => {});
  }

  /** Capsules on the stream, as they are. */
  content(bytes: Uint8Array): void {
    this.#content?.write(bytes).catch(() => {});
  }

  end(): void {
    this.#content?.close().catch(() => {});
  }

  /** Reads nothing until `resume`. */
  pause(): void {
    this.#readers = this.#stream?.listeners('readable') as Listener[];
    this.#stream?.removeAllListeners('readable');
  }

  resume(): void {
    for (const reader of this.#readers) this.#stream?.on('readable', reader);
    this.#stream?.emit('readable');
  }

  close(): void {
    // Closed before it is destroyed, or the package pings it once more and throws.
    this.#connection.close();
    this.#connection.destroy();
  }

  until(done: () => unknown, what: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return waitFor(done, { timeoutMs, intervalMs: 3, what });
  }

  get #connection(): ClientHttp2Session {
    const { sessionint } = this.#session as unknown as {
      sessionint: { parentobj: { transportInt: { clientInt: ClientHttp2Session } } };
    };
    return sessionint.parentobj.transportInt.clientInt;
  }

  #changeRequest(changes: Readonly<Record<string, string>>): void {
    const connection = this.#connection;
    const request = connection.request.bind(connection);
    connection.request = (headers, options) => {
      const stream = request({ ...headers, ...changes }, options);
      this.#stream = stream;
      stream.once('response', ({ ':status': status = 0, ...fields }) => {
        this.status = Number(status);
        this.#fields = fields;
      });
      stream.once('close', () => {
        this.#streamCode = stream.rstCode;
      });
      return stream;
    };
  }

  async #openStream(): Promise<void> {
    await this.#session.ready;
    this.#datagrams = this.#session.datagrams.createWritable().getWriter();
    const { readable, writable } = await this.#session.createBidirectionalStream();
    this.#content = writable.getWriter();
    void this.#read(this.#session.datagrams.readable, (bytes) => this.receivePayload(bytes, 0, bytes.length));
    void this.#read(readable, (bytes) => this.receiveContent(bytes));
  }

  async #read(stream: ReadableStream<Uint8Array>, take: (bytes: Uint8Array) => void): Promise<void> {
    try {
      for await (const bytes of stream) take(bytes);
    } catch {
      // The session is over, which its `closed` tells.
    }
  }
}
