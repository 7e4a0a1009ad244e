import type { TLSSocket } from 'node:tls';
import { FRAME, type Http2Frame, http2Frame, PREFACE, readFrames } from './http2-frames.ts';
import { connectNodeTls } from './http2-peer.ts';
import type { PeerTarget } from './test-peer.ts';
import { waitFor } from './wait-for.ts';

const TIMEOUT_MS = 20_000;

/** A TLS connection to a node on which the test writes every frame of HTTP/2 itself. */
export class RawHttp2Peer {
  readonly socket: TLSSocket;
  closed = false;
  #bytes = Buffer.alloc(0);

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
    });
    socket.on('close', () => {
      this.closed = true;
    });
    // A peer that a failed test forgot must not keep the test's process alive.
    socket.unref();
  }

  /** Connects, and starts with the preface unless the test wants to. */
  static async connect(target: PeerTarget, preface = true): Promise<RawHttp2Peer> {
    const peer = new RawHttp2Peer(connectNodeTls(target));
    if (preface) peer.write(PREFACE, http2Frame(FRAME.SETTINGS, 0, 0));
    await peer.until(() => peer.closed || peer.frames.length > 0, 'the SETTINGS of the node');
    return peer;
  }

  get frames(): Http2Frame[] {
    return readFrames(this.#bytes);
  }

  write(...frames: readonly Uint8Array[]): void {
    for (const frame of frames) this.socket.write(frame);
  }

  /** How a stream was reset. */
  resetCode(streamId: number): number | undefined {
    return this.frames
      .find((frame) => frame.type === FRAME.RST_STREAM && frame.streamId === streamId)
      ?.payload.readUInt32BE(0);
  }

  /** The code of the node's GOAWAY. */
  get goawayCode(): number | undefined {
    return this.frames.find(({ type }) => type === FRAME.GOAWAY)?.payload.readUInt32BE(4);
  }

  until(done: () => unknown, what: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return waitFor(done, { timeoutMs, intervalMs: 5, what });
  }

  /** Says nothing more, and leaves the connection to the node. */
  vanish(): void {
    this.socket.pause();
  }

  close(): void {
    this.socket.destroy();
  }
}
