import type { Http3Connection } from '../http3/http3-connection.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';
import { probeMaxPacketBytes } from './probe-max-packet.ts';
import { maxPacketBytes, sendPacket, type TunnelPath } from './send-packet.ts';
import type { TunnelTransport } from './tunnel-transport.ts';

/** Carries a tunnel on a request stream of HTTP/3: packets in QUIC datagrams, capsules in DATA frames. */
export class Http3TunnelTransport implements TunnelTransport {
  #maxPacketBytes: number;
  readonly #quic: QuicEndpoint;
  readonly #http3: Http3Connection;
  readonly #path: TunnelPath;

  constructor(quic: QuicEndpoint, http3: Http3Connection, path: TunnelPath) {
    this.#quic = quic;
    this.#http3 = http3;
    this.#path = path;
    this.#maxPacketBytes = maxPacketBytes(path.streamId);
  }

  get maxPacketBytes(): number {
    return this.#maxPacketBytes;
  }

  learnMaxPacketBytes(most: number): boolean {
    const asked = Math.min(most, this.#maxPacketBytes);
    const taken = probeMaxPacketBytes(this.#quic, this.#http3, this.#path, asked);
    if (taken === undefined) return false;
    if (taken < asked) this.#maxPacketBytes = taken;
    return true;
  }

  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean {
    return sendPacket(this.#quic, this.#http3, this.#path, bytes, offset, length);
  }

  sendCapsule(capsule: Uint8Array): void {
    this.#http3.sendData(this.#path.streamId, capsule);
  }

  end(): void {
    this.#http3.endStream(this.#path.streamId);
  }

  abort(errorCode: number): void {
    this.#http3.abortStream(this.#path.streamId, errorCode);
  }

  rttMs(): number | null {
    return this.#quic.pathStatistics(this.#path.connection)?.rttMs ?? null;
  }
}
