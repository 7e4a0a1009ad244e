import { randomBytes } from 'node:crypto';
import { CodedError } from '../../shared/errors.ts';
import type { QuicCore } from './quic-core.ts';
import { RETRY_KEY_BYTES } from './retry-token.ts';

/** The longest UDP payload sent: 1500 bytes of Ethernet less an IPv6 and a UDP header. */
export const MAX_UDP_PAYLOAD = 1452;
/**
 * The longest DATAGRAM frame payload that fits (measured; the core answers -1 above): MAX_UDP_PAYLOAD less short header with a
 * 20-byte connection id, packet number, AEAD tag, frame type and length.
 */
export const MAX_DATAGRAM_PAYLOAD = 1408;
/** Datagrams that the core keeps for one connection while congestion control holds them back: with MAX_DATAGRAM_PAYLOAD, 1.5 MB. */
export const MAX_QUEUED_DATAGRAMS = 1_064;
/** Silence after which a peer is gone (RFC 9000 10.1). */
export const IDLE_TIMEOUT_MS = 30_000;

export interface QuicServerOptions {
  readonly role: 'server';
  /** PEM. */
  readonly cert: string;
  readonly key: string;
  /** PEM of the authority that client certificates must come from; none are asked for without it. */
  readonly clientCa?: string | undefined;
  /** `ip:port` of the socket. */
  readonly localAddress: string;
  readonly maxConnections: number;
  /** Only clients with a token that was made with this key get in (`retry-token.ts`); without it, tokens are not looked at. */
  readonly retryKey?: Uint8Array;
}

export interface QuicClientOptions {
  readonly role: 'client';
  readonly localAddress: string;
  /** `ip:port` of the server. */
  readonly serverAddress: string;
  /** The DNS name that the server's certificate must have. */
  readonly serverName: string;
  /** PEM of the authority that the server's certificate must come from. */
  readonly ca: string;
  /** PEM of our own certificate, where the server wants one. */
  readonly cert?: string;
  readonly key?: string;
}

export type QuicOptions = QuicServerOptions | QuicClientOptions;

/** What both kinds of handle of the core can do, with one connection number 0 on the client's. Pointers are the core's. */
export interface CoreHandle {
  readonly core: QuicCore;
  readonly rxBuffer: number;
  readonly txBuffer: number;
  receive(length: number, peerPointer: number, peerLength: number): bigint;
  /** Length of the next packet in `txBuffer`, or 0. */
  nextSend(): number;
  /** Length of the text of the peer of that packet, its pointer in `outPointer`; 0 for the client's only peer. */
  nextSendDestination(outPointer: number): number;
  /** Milliseconds until `onTimeout` is due, or -1. */
  timeoutMs(): number;
  onTimeout(): void;
  /** Length of the JSON of what happened, its pointer in `outPointer`. */
  drainEvents(outPointer: number): number;
  /** Bytes sent at once; the rest, and all of it where the answer is negative, waits in the core for flow control. */
  streamSend(connection: number, streamId: number, pointer: number, length: number, fin: boolean): number;
  streamClose(connection: number, streamId: number, errorCode: number): void;
  /** Negative when the datagram is too long or the queue is full. */
  sendDatagram(connection: number, pointer: number, length: number): number;
  ping(connection: number): void;
  sessionMetrics(connection: number, outPointer: number): number;
  close(connection: number, errorCode: number, pointer: number, length: number): void;
  free(): void;
}

const ALPN = ['h3'];
const CONNECTION_ID_BYTES = 20;
/** Request streams that a peer may have open at once: one tunnel needs one. */
export const MAX_BIDI_STREAMS = 100;
const COMMON = {
  alpn: ALPN,
  enableDatagrams: true,
  maxIdleTimeoutMs: IDLE_TIMEOUT_MS,
  maxUdpPayloadSize: MAX_UDP_PAYLOAD,
  initialMaxStreamsBidi: MAX_BIDI_STREAMS,
};

export class QuicConfigError extends CodedError {
  constructor(why: string) {
    super('QUIC_CONFIG', `the QUIC core refused its configuration: ${why}`);
  }
}

/** Makes a core, which has to be its own, a server or one client connection. Throws QuicConfigError, e.g. for a bad certificate. */
export function openCoreHandle(options: QuicOptions, core: QuicCore): CoreHandle {
  return options.role === 'server' ? openServer(core, options) : openClient(core, options);
}

function openServer(core: QuicCore, options: QuicServerOptions): CoreHandle {
  const x = core.exports;
  const json = {
    ...COMMON,
    key: options.key,
    cert: options.cert,
    ...(options.clientCa === undefined ? {} : { ca: options.clientCa, clientAuth: 'require' }),
    localAddr: options.localAddress,
    retryTokenKeyHex: Buffer.from(options.retryKey ?? randomBytes(RETRY_KEY_BYTES)).toString('hex'),
    disableRetry: options.retryKey === undefined,
    disableActiveMigration: false,
    maxConnections: options.maxConnections,
  };
  const handle = create(core, json, x.qs_new, x.qs_last_error);
  return {
    core,
    rxBuffer: x.qs_rx_buffer(handle),
    txBuffer: x.qs_tx_buffer(handle),
    receive: (length, peer, peerLength) => x.qs_recv(handle, length, peer, peerLength),
    nextSend: () => Number(x.qs_next_send(handle)),
    nextSendDestination: (out) => Number(x.qs_next_send_dest(handle, out)),
    timeoutMs: () => Number(x.qs_timeout_ms(handle)),
    onTimeout: () => void x.qs_on_timeout(handle),
    drainEvents: (out) => Number(x.qs_drain_events(handle, out)),
    streamSend: (c, id, pointer, length, fin) =>
      Number(x.qs_stream_send(handle, c, BigInt(id), pointer, length, fin ? 1 : 0)),
    streamClose: (c, id, code) => void x.qs_stream_close(handle, c, BigInt(id), code),
    sendDatagram: (c, pointer, length) => Number(x.qs_send_datagram(handle, c, pointer, length)),
    ping: (c) => void x.qs_ping(handle, c),
    sessionMetrics: (c, out) => Number(x.qs_session_metrics(handle, c, out)),
    close: (c, code, pointer, length) => void x.qs_close_connection(handle, c, code, pointer, length),
    free: () => x.qs_free(handle),
  };
}

function openClient(core: QuicCore, options: QuicClientOptions): CoreHandle {
  const x = core.exports;
  const json = {
    ...COMMON,
    ca: options.ca,
    rejectUnauthorized: true,
    ...(options.cert === undefined ? {} : { cert: options.cert, key: options.key }),
    serverAddr: options.serverAddress,
    serverName: options.serverName,
    localAddr: options.localAddress,
    scidHex: randomBytes(CONNECTION_ID_BYTES).toString('hex'),
  };
  const handle = create(core, json, x.qc_new, x.qc_last_error);
  return {
    core,
    rxBuffer: x.qc_rx_buffer(handle),
    txBuffer: x.qc_tx_buffer(handle),
    receive: (length) => x.qc_recv(handle, length),
    nextSend: () => Number(x.qc_next_send(handle)),
    nextSendDestination: () => 0,
    timeoutMs: () => Number(x.qc_timeout_ms(handle)),
    onTimeout: () => void x.qc_on_timeout(handle),
    drainEvents: (out) => Number(x.qc_drain_events(handle, out)),
    streamSend: (_c, id, pointer, length, fin) =>
      Number(x.qc_stream_send(handle, BigInt(id), pointer, length, fin ? 1 : 0)),
    streamClose: (_c, id, code) => void x.qc_stream_close(handle, BigInt(id), code),
    sendDatagram: (_c, pointer, length) => Number(x.qc_send_datagram(handle, pointer, length)),
    ping: () => void x.qc_ping(handle),
    sessionMetrics: (_c, out) => Number(x.qc_session_metrics(handle, out)),
    close: (_c, code, pointer, length) => void x.qc_close(handle, code, pointer, length),
    free: () => x.qc_free(handle),
  };
}

function create(
  core: QuicCore,
  json: object,
  make: (pointer: number, length: number) => number,
  lastError: (handle: number, pointer: number, capacity: number) => number,
): number {
  const { ptr, len } = core.writeUtf8(JSON.stringify(json));
  const handle = make(ptr, len);
  core.free(ptr, len);
  if (handle === 0) throw new QuicConfigError(core.readLastError(lastError, 0));
  return handle;
}
