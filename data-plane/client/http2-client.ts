import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  sensitiveHeaders,
} from 'node:http2';
import { isIP, Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { describeError } from '../../shared/errors.ts';
import { socketPair } from '../byte-channel/socket-pair.ts';
import { http2ErrorCode } from '../http2/http2-error-code.ts';
import { H3_REQUEST_CANCELLED } from '../http3/error-codes.ts';
import type { FieldLine } from '../http3/qpack/field-line.ts';
import { buildConnectIpRequest } from '../masque/build-connect-ip-request.ts';
import { readConnectIpResponse } from '../masque/connect-ip-response.ts';
import { parseSocketAddress } from '../udp/socket-address.ts';
import { checkNodeIdentity } from './check-node-identity.ts';
import type { ConnectOptions } from './client-messages.ts';
import { CONNECT_TIMEOUT_MS, KEEPALIVE_INTERVAL_MS, SILENCE_TIMEOUT_MS } from './client-tunnel.ts';
import { certificateProblem, noNodeProblem, refusalProblem, SILENCE_PROBLEM, timeoutProblem } from './problems.ts';

export interface Http2ClientEvents {
  /** The request could be sent now: `sendRequest` does it. */
  onReady(): void;
  /** The tunnel is open: its capsules come and go by this descriptor, which is the receiver's. When its other end has ended, so has the tunnel. */
  onOpen(fd: number): void;
  /** The attempt failed before the tunnel was open; nothing follows but `close`. */
  onFailed(reason: string): void;
}

/**
 * Bytes that the node may send ahead of being read (RFC 9113 5.2; ours), for the stream and for the connection: 600 Mbit/s over 100 ms. What the
 * packet thread does not take is held within them, and then at the node.
 */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** Bytes of the fields of a response (ours, as over HTTP/3). */
const MAX_HEADER_LIST_BYTES = 16_384;
/** How long the node may take to see the end (ours). */
const LINGER_MS = 1_000;
/** Pings without a byte of the node, one after the other, after which it is gone. */
const MAX_SILENT_PINGS = SILENCE_TIMEOUT_MS / KEEPALIVE_INTERVAL_MS;

const ENDED = 'the node ended the tunnel';

type State = 'handshake' | 'request' | 'open' | 'ended';

/**
 * One HTTP/2 connection to a node with one CONNECT-IP tunnel on it (RFC 8441, RFC 9297 3.1), from the first packet to the end. The packet thread
 * has the tunnel's content by a socket pair.
 */
export class Http2Client {
  readonly #options: ConnectOptions;
  readonly #events: Http2ClientEvents;
  readonly #socket: TLSSocket;
  readonly #timeout: NodeJS.Timeout;
  readonly #keepAlive: NodeJS.Timeout;
  #session: ClientHttp2Session | undefined;
  #stream: ClientHttp2Stream | undefined;
  #channel: Socket | undefined;
  #heardBytes = 0;
  #silentPings = 0;
  #state: State = 'handshake';
  #endReason: string | undefined;

  /** Throws when the PEM texts are none. */
  constructor(options: ConnectOptions, events: Http2ClientEvents) {
    this.#options = options;
    this.#events = events;
    const { host, port } = parseSocketAddress(options.serverAddress);
    const name = new URL(options.url).hostname.replace(/^\[|\]$/g, '');
    this.#socket = connectTls({
      host,
      port,
      ca: options.ca,
      ...options.certificate,
      ALPNProtocols: ['h2'],
      // The name of a server is never an address (RFC 6066 3).
      servername: isIP(name) === 0 ? name : '',
      checkServerIdentity: (_name, certificate) => checkNodeIdentity(name, certificate),
    });
    this.#socket.setNoDelay(true);
    this.#socket.on('error', (error) => this.#end(this.#socketProblem(error)));
    this.#socket.once('close', () => this.#end('the node closed the connection'));
    this.#socket.once('secureConnect', () => this.#startSession());
    this.#timeout = setTimeout(() => this.#onTimeout(), CONNECT_TIMEOUT_MS);
    this.#keepAlive = setInterval(() => this.#ping(), KEEPALIVE_INTERVAL_MS);
  }

  /** Why it ended, once it has. */
  get endReason(): string | undefined {
    return this.#endReason;
  }

  /** Sends the request; to be called once, after `onReady`. */
  sendRequest(): void {
    if (this.#state !== 'request' || this.#session === undefined) return;
    const { url, token } = this.#options;
    const { method, protocol, scheme, authority, path, fields } = buildConnectIpRequest(url, token);
    const pseudo = {
      ':method': method,
      ':protocol': protocol,
      ':scheme': scheme,
      ':authority': authority,
      ':path': path,
    };
    // Sensitive fields enter no compression table (RFC 7541 7.1.3).
    const headers = { ...pseudo, ...Object.fromEntries(fields), [sensitiveHeaders]: ['authorization'] };
    const stream = this.#session.request(headers, { endStream: false });
    this.#stream = stream;
    stream.once('response', (answer) => this.#onResponse(stream, answer));
    // What comes as an error is told by the end of the stream too.
    stream.on('error', () => {});
    stream.once('close', () => this.#onStreamClose(stream.rstCode));
  }

  /** Ends the tunnel and the connection; `errorCode` of HTTP/3 says which rule the node broke. No event follows. */
  close(errorCode?: number): void {
    const wasOpen = this.#channel !== undefined;
    this.#finish('the client ended the tunnel');
    const session = this.#session;
    if (session === undefined || session.destroyed) {
      this.#socket.destroy();
      return;
    }
    // The end of an open tunnel comes by the channel, behind all that the packet thread has sent.
    if (errorCode !== undefined || !wasOpen) this.#stream?.close(http2ErrorCode(errorCode ?? H3_REQUEST_CANCELLED));
    session.close();
    const linger = setTimeout(() => session.destroy(), LINGER_MS);
    session.once('close', () => clearTimeout(linger));
  }

  #startSession(): void {
    if (this.#socket.alpnProtocol !== 'h2') {
      this.#end(noNodeProblem('HTTP/2'));
      return;
    }
    const session = connect(new URL(this.#options.url).origin, {
      createConnection: () => this.#socket,
      settings: { enablePush: false, initialWindowSize: WINDOW_BYTES, maxHeaderListSize: MAX_HEADER_LIST_BYTES },
    });
    this.#session = session;
    session.once('connect', () => session.setLocalWindowSize(WINDOW_BYTES));
    session.once('remoteSettings', ({ enableConnectProtocol }) => {
      if (this.#state !== 'handshake') return;
      if (enableConnectProtocol !== true) {
        this.#end(noNodeProblem('extended CONNECT'));
        return;
      }
      this.#state = 'request';
      this.#events.onReady();
    });
    session.once('goaway', (code) => {
      // A tunnel that is open lives until the node ends it.
      if (code !== constants.NGHTTP2_NO_ERROR)
        this.#end(`the node closed the connection (code 0x${code.toString(16)})`);
      else if (this.#state !== 'open') this.#end('the node goes away');
    });
    session.on('error', (error) => this.#end(describeError(error)));
  }

  #onResponse(stream: ClientHttp2Stream, headers: IncomingHttpHeaders & IncomingHttpStatusHeader): void {
    if (this.#state !== 'request') return;
    const answer = readConnectIpResponse(headers[':status'] ?? 0, fieldLines(headers));
    if (answer.kind === 'refused') this.#end(refusalProblem(answer.status));
    else if (answer.kind === 'malformed') this.#end(answer.reason);
    else this.#open(stream);
  }

  #open(stream: ClientHttp2Stream): void {
    const [own, peer] = socketPair();
    const channel = new Socket({ fd: own, readable: true, writable: true, allowHalfOpen: true });
    this.#channel = channel;
    this.#state = 'open';
    clearTimeout(this.#timeout);
    channel.pipe(stream);
    stream.pipe(channel);
    // A stream that was reset ends as well, but is closed by then.
    stream.once('end', () => {
      if (!stream.closed) this.#end(ENDED);
    });
    // Each is read to its end when the other is gone, or it would never close.
    stream.once('close', () => channel.resume().end());
    channel.once('close', () => stream.resume().end());
    // The packet thread may go first, with something on its way to it.
    channel.on('error', () => {});
    this.#events.onOpen(peer);
  }

  #onStreamClose(code: number): void {
    const reason = `the node reset the tunnel (code 0x${code.toString(16)})`;
    // Node.js sends the end of a stream ahead of a reset.
    if (this.#endReason === ENDED && code !== constants.NGHTTP2_NO_ERROR) this.#endReason = reason;
    this.#end(reason);
  }

  #ping(): void {
    if (this.#state !== 'open' || this.#session === undefined) return;
    const heardBytes = this.#socket.bytesRead;
    this.#silentPings = heardBytes === this.#heardBytes ? this.#silentPings + 1 : 0;
    this.#heardBytes = heardBytes;
    if (this.#silentPings < MAX_SILENT_PINGS) this.#session.ping(() => {});
    else this.#end(SILENCE_PROBLEM);
  }

  #onTimeout(): void {
    this.#end(timeoutProblem(this.#state === 'handshake' ? 'HTTP/2 handshake' : 'answer to the request'));
  }

  #socketProblem(error: Error): string {
    const { authorizationError } = this.#socket;
    const reason = 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message;
    return authorizationError ? certificateProblem(this.#options.serverAddress, reason) : reason;
  }

  /** The packet thread tells of the end of an open tunnel, when it has read all that came before. */
  #end(reason: string): void {
    const channel = this.#channel;
    if (!this.#finish(reason)) return;
    if (channel === undefined) {
      this.#events.onFailed(reason);
    } else {
      this.#stream?.unpipe(channel);
      channel.end();
    }
  }

  #finish(reason: string): boolean {
    if (this.#state === 'ended') return false;
    this.#state = 'ended';
    this.#endReason = reason;
    clearTimeout(this.#timeout);
    clearInterval(this.#keepAlive);
    return true;
  }
}

function fieldLines(headers: IncomingHttpHeaders): FieldLine[] {
  return Object.entries(headers).flatMap(([name, value]): FieldLine[] =>
    name.startsWith(':') || value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
  );
}
