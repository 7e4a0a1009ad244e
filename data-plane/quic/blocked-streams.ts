/** What may wait for the flow control of one stream (ours); capsules and headers need a few hundred bytes. */
const MAX_BLOCKED_BYTES = 4 * 1024 * 1024;

/** Bytes that the core keeps for streams whose peer gives no flow control credit, by connection and stream. */
export class BlockedStreams {
  readonly #bytes = new Map<number, Map<number, number>>();

  /** False when more waits for the stream than may. */
  add(connection: number, streamId: number, bytes: number): boolean {
    const streams = this.#bytes.get(connection) ?? new Map<number, number>();
    this.#bytes.set(connection, streams);
    const total = (streams.get(streamId) ?? 0) + bytes;
    streams.set(streamId, total);
    return total <= MAX_BLOCKED_BYTES;
  }

  /** Nothing waits for the stream (any more). */
  delete(connection: number, streamId: number): void {
    this.#bytes.get(connection)?.delete(streamId);
  }

  deleteAll(connection: number): void {
    this.#bytes.delete(connection);
  }
}
