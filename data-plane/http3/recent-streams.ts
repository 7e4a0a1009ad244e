/** How many closed streams are remembered, ours. QUIC delivers at most a batch of events of a stream after its end. */
const REMEMBERED_STREAMS = 1024;

/** The ids of the streams that closed last, so that late bytes of one are not taken for a new stream. */
export class RecentStreams {
  readonly #ids = new Set<number>();

  add(streamId: number): void {
    this.#ids.add(streamId);
    if (this.#ids.size <= REMEMBERED_STREAMS) return;
    for (const oldest of this.#ids) {
      this.#ids.delete(oldest);
      return;
    }
  }

  has(streamId: number): boolean {
    return this.#ids.has(streamId);
  }
}
