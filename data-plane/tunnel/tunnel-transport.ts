/**
 * What a tunnel needs of that which carries it: a request stream of HTTP/3, or of HTTP/2 or WebTransport behind a byte channel. Nothing of
 * it calls back into the tunnel, and after `end` or `abort` it is not used again.
 */
export interface TunnelTransport {
  /** The longest IP packet that it carries, as far as is known; Infinity where any fits. */
  readonly maxPacketBytes: number;
  /** Lets `maxPacketBytes` be exact up to `most`, by asking the peer where that is needed. False when it has to be tried again later. */
  learnMaxPacketBytes(most: number): boolean;
  /** Sends one IP packet. False when it is too long or the queue is full. */
  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean;
  /** Sends a whole capsule, which is not dropped. */
  sendCapsule(capsule: Uint8Array): void;
  /** Ends our side, after what was sent. */
  end(): void;
  /** Ends both sides at once, with an error code of HTTP/3, which other transports translate. */
  abort(errorCode: number): void;
  /** Smoothed RTT of the way to the client in milliseconds; null where the transport does not say. */
  rttMs(): number | null;
}
