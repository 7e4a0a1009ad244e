/** The client's end of an open tunnel in a test, whatever carries it. */
export interface TunnelEnd {
  /** Without prefix lengths. */
  readonly addresses: readonly string[];
  /** IP packets that come, probes of the node aside. */
  onPacket: (packet: Buffer) => void;
  packet(bytes: Uint8Array): unknown;
  until(done: () => unknown, what: string, timeoutMs?: number): Promise<unknown>;
}
