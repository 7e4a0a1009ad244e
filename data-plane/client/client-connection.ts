import { formatPrefix } from '../../shared/ip/prefix.ts';
import { rangeToPrefixes } from '../../shared/ip/range.ts';
import { datagramPayloadOffset } from '../http3/datagram.ts';
import {
  H3_EXCESSIVE_LOAD,
  H3_NO_ERROR,
  H3_REQUEST_CANCELLED,
  type Http3ConnectionError,
  Http3StreamError,
  Http3UsageError,
} from '../http3/error-codes.ts';
import { Http3Connection } from '../http3/http3-connection.ts';
import type { Http3Events } from '../http3/http3-endpoint.ts';
import type { FieldLine } from '../http3/qpack/field-line.ts';
import type { Http3Settings } from '../http3/settings-frame.ts';
import { type AssignedAddress, encodeAddressAssign, isRefusal, refusedAddress } from '../masque/address-assign.ts';
import type { RequestedAddress } from '../masque/address-request.ts';
import { buildConnectIpRequest } from '../masque/build-connect-ip-request.ts';
import { CapsuleReader } from '../masque/capsule-reader.ts';
import { readConnectIpResponse } from '../masque/connect-ip-response.ts';
import { ipPacketOffset } from '../masque/ip-datagram.ts';
import type { IpRoute } from '../masque/route-advertisement.ts';
import { QuicEndpoint, type QuicEvents } from '../quic/quic-endpoint.ts';
import { http3OverQuic } from '../tunnel/http3-over-quic.ts';
import { sendPacket } from '../tunnel/send-packet.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import type { UdpSocket } from '../udp/udp-socket.ts';
import type { ConnectOptions, TunnelConfiguration } from './client-messages.ts';

export interface ClientConnectionEvents {
  /** Addresses or routes came, or changed. `server` is the node's IP address. */
  onConfigured(configuration: TunnelConfiguration, server: string): void;
  /** An IP packet came. Good until the handler returns. */
  onPacket(bytes: Uint8Array, offset: number, length: number): void;
  /** The attempt failed or the tunnel ended; nothing follows. */
  onEnded(reason: string): void;
}

/** An attempt that has no tunnel after this long has failed. */
const CONNECT_TIMEOUT_MS = 10_000;
/**
 * Silence after which an open tunnel is given up and opened anew: a node that was restarted does not answer for connections that it
 * has forgotten. Half of QUIC's idle timeout, and three keepalive intervals.
 */
const SILENCE_TIMEOUT_MS = 15_000;
export const KEEPALIVE_INTERVAL_MS = SILENCE_TIMEOUT_MS / 3;
/** Addresses and networks that we take of a node (ours): each is set up by a call of `ip`, and a list can have thousands. */
const MAX_ADDRESSES = 16;
export const MAX_NETWORKS = 1_000;
/** A client has one connection at a time, and one request on it. */
const CONNECTION = 0;
const REQUEST_STREAM = 0;
/** TLS alerts about a certificate, as QUIC carries them: bad, unsupported, revoked, expired, unknown, of an unknown authority (RFC 8446 6, RFC 9001 4.8). */
const CERTIFICATE_ERRORS: ReadonlySet<number> = new Set([0x12a, 0x12b, 0x12c, 0x12d, 0x12e, 0x130]);

type State = 'handshake' | 'request' | 'open' | 'ended';

/** One QUIC connection to a node with one CONNECT-IP tunnel on it, from the first packet to the end. */
export class ClientConnection implements Http3Events {
  readonly #options: ConnectOptions;
  readonly #socket: UdpSocket;
  readonly #server: SocketAddress;
  readonly #events: ClientConnectionEvents;
  readonly #quic: QuicEndpoint;
  readonly #http3: Http3Connection;
  readonly #capsules: CapsuleReader;
  readonly #dueMs = performance.now() + CONNECT_TIMEOUT_MS;
  readonly #path = { connection: CONNECTION, streamId: REQUEST_STREAM };
  readonly #queue = (bytes: Uint8Array, offset: number, length: number): void =>
    this.#socket.queue(bytes, offset, length, this.#server);
  #heard = true;
  #heardMs = 0;
  #state: State = 'handshake';
  #addresses: readonly string[] | undefined;
  #routes: readonly string[] | undefined;

  constructor(options: ConnectOptions, socket: UdpSocket, events: ClientConnectionEvents) {
    this.#options = options;
    this.#socket = socket;
    this.#server = socket.peers.fromText(options.serverAddress);
    this.#events = events;
    this.#quic = new QuicEndpoint(
      {
        role: 'client',
        localAddress: socket.localAddress.text,
        serverAddress: options.serverAddress,
        serverName: new URL(options.url).hostname.replace(/^\[|\]$/g, ''),
        ca: options.ca,
        ...options.certificate,
      },
      this.#quicEvents(),
      () => {},
    );
    const transport = http3OverQuic(this.#quic, CONNECTION, () => REQUEST_STREAM);
    this.#http3 = new Http3Connection('client', transport, this);
    this.#capsules = new CapsuleReader({
      onAddressAssign: (assigned) => {
        this.#addresses = assignedPrefixes(assigned);
        this.#configure();
      },
      onRouteAdvertisement: (routes) => {
        this.#routes = advertisedNetworks(routes);
        this.#configure();
      },
      onAddressRequest: (requested) => this.#refuse(requested),
      onDatagram: (payload) => this.#receivePayload(payload, 0, payload.length),
    });
    this.endTurn();
  }

  // --- from the packet loop

  receiveUdp(bytes: Uint8Array, offset: number, length: number, peer: SocketAddress): void {
    if (peer.text !== this.#server.text) return;
    this.#heard = true;
    this.#quic.receive(bytes, offset, length, peer.text);
  }

  processEvents(): void {
    this.#quic.processEvents();
  }

  endTurn(): void {
    this.#quic.processEvents();
    this.#quic.flush(this.#queue);
    this.#socket.flush();
  }

  timeoutMs(): number {
    return this.#quic.timeoutMs();
  }

  onTimeout(): void {
    this.#quic.onTimeout();
  }

  keepAlive(): void {
    if (this.#state === 'open') this.#quic.ping(CONNECTION);
  }

  /** Ends what has waited for too long. Silence in spite of pings means that the node is gone, or knows us no more. */
  sweep(nowMs: number): void {
    if (this.#heard) this.#heardMs = nowMs;
    this.#heard = false;
    if (this.#state === 'open') {
      if (nowMs - this.#heardMs > SILENCE_TIMEOUT_MS)
        this.#end(`no word from the node for ${SILENCE_TIMEOUT_MS / 1000} s`);
      return;
    }
    if (nowMs < this.#dueMs) return;
    const what = this.#state === 'handshake' ? 'a QUIC handshake' : 'an answer to the request';
    this.#end(`no ${what.replace(/^an? /, '')} within ${CONNECT_TIMEOUT_MS / 1000} s`);
  }

  /** False when the tunnel is not open or its queue is full. */
  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean {
    return this.#state === 'open' && sendPacket(this.#quic, this.#http3, this.#path, bytes, offset, length);
  }

  /** The tunnel is of no use: ends the attempt. */
  giveUp(reason: string): void {
    this.#end(reason);
  }

  /** Ends the tunnel and the connection, and tells the node. */
  close(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#http3.abortStream(REQUEST_STREAM, H3_REQUEST_CANCELLED);
    this.#http3.close(H3_NO_ERROR, 'client stops');
    this.endTurn();
  }

  /** The QUIC core aborted; returns what that means here. */
  trapped(): string {
    this.#state = 'ended';
    return 'the QUIC core aborted';
  }

  // --- HTTP/3

  onSettings({ enableConnectProtocol, h3Datagram }: Http3Settings): void {
    if (!enableConnectProtocol || !h3Datagram) {
      this.#end(`the server offers no ${enableConnectProtocol ? 'HTTP datagrams' : 'extended CONNECT'}: it is no node`);
      return;
    }
    try {
      this.#http3.sendRequest(buildConnectIpRequest(this.#options.url, this.#options.token));
    } catch (error) {
      if (!(error instanceof Http3UsageError)) throw error;
      this.#end(error.message);
    }
  }

  onRequest(): void {}

  onResponse(_streamId: number, status: number, fields: readonly FieldLine[]): void {
    const answer = readConnectIpResponse(status, fields);
    if (answer.kind === 'tunnel') this.#state = 'open';
    else if (answer.kind === 'refused') this.#end(`the node answered ${answer.status}`);
    else this.#end(answer.reason, answer.resetCode);
  }

  onData(_streamId: number, bytes: Uint8Array): void {
    this.#capsules.push(bytes);
  }

  onStreamEnd(): void {
    this.#capsules.end();
    this.#end('the node ended the tunnel');
  }

  onStreamReset(_streamId: number, errorCode: number, error?: Http3StreamError): void {
    if (error === undefined) this.#end(`the node reset the tunnel (code 0x${errorCode.toString(16)})`);
    else this.#end(error.message, error.wireCode);
  }

  /** A tunnel that is open lives until the node ends it; a request that the node will not serve is not waited for. */
  onGoaway(firstRefused: number): void {
    if (this.#state !== 'open' && firstRefused <= REQUEST_STREAM) this.#end('the node goes away');
  }

  onConnectionError(error: Http3ConnectionError): void {
    this.#end(error.message);
  }

  #quicEvents(): QuicEvents {
    return {
      onConnection: () => {},
      onHandshakeComplete: () => {
        this.#state = 'request';
        this.#http3.start();
      },
      onStreamData: (_connection, streamId, bytes, fin) => this.#http3.receiveStream(streamId, bytes, fin),
      onStreamReset: (_connection, streamId, code) => this.#http3.streamReset(streamId, code),
      onDatagram: (_connection, bytes, offset, length) => {
        const end = offset + length;
        if (this.#http3.datagramStream(bytes, offset, end) !== REQUEST_STREAM) return;
        this.#receivePayload(bytes, datagramPayloadOffset(bytes, offset), end);
      },
      onClosed: (_connection, code, reason) => this.#end(this.#closeProblem(code, reason)),
    };
  }

  #closeProblem(code: number, reason: string): string {
    if (this.#state === 'handshake' && CERTIFICATE_ERRORS.has(code)) {
      return `the certificate of ${this.#options.serverAddress} was refused: it must come from --ca and have the DNS name of --url`;
    }
    return `the connection closed: ${reason || 'no reason given'} (code 0x${code.toString(16)})`;
  }

  #receivePayload(bytes: Uint8Array, offset: number, end: number): void {
    const packet = ipPacketOffset(bytes, offset, end);
    if (this.#state === 'open' && packet >= 0) this.#events.onPacket(bytes, packet, end - packet);
  }

  #configure(): void {
    if (this.#addresses === undefined || this.#routes === undefined) return;
    this.#events.onConfigured({ addresses: this.#addresses, routes: this.#routes }, this.#server.host);
  }

  // We have no addresses to give: each wish is refused (RFC 9484 4.7.2).
  #refuse(requested: readonly RequestedAddress[]): void {
    const answers = requested.map(({ requestId, prefix }) => refusedAddress(requestId, prefix.address.family));
    this.#http3.sendData(REQUEST_STREAM, encodeAddressAssign(answers));
  }

  /** `code` is what the node is told: with one tunnel a connection, an error of the stream ends both. */
  #end(reason: string, code = H3_NO_ERROR): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#http3.close(code, '');
    this.#quic.flush(this.#queue);
    this.#socket.flush();
    this.#events.onEnded(reason);
  }
}

/** What the node gave, refused wishes aside. Throws H3_EXCESSIVE_LOAD. */
function assignedPrefixes(assigned: readonly AssignedAddress[]): string[] {
  const given = assigned.filter((one) => !isRefusal(one)).map(({ prefix }) => formatPrefix(prefix));
  if (given.length > MAX_ADDRESSES) throw excessive(`more than ${MAX_ADDRESSES} addresses assigned`);
  return given;
}

/** Throws H3_EXCESSIVE_LOAD. */
function advertisedNetworks(routes: readonly IpRoute[]): string[] {
  const networks = new Set<string>();
  for (const { start, end } of routes) {
    for (const prefix of rangeToPrefixes(start, end)) networks.add(formatPrefix(prefix));
    if (networks.size > MAX_NETWORKS) throw excessive(`more than ${MAX_NETWORKS} networks advertised`);
  }
  return [...networks];
}

function excessive(why: string): Http3StreamError {
  return new Http3StreamError(H3_EXCESSIVE_LOAD, why);
}
