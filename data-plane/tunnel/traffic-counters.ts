import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';

/** Inner IP packets of one tunnel that passed the checks: `in` from the client, `out` to it. */
export class TrafficCounters {
  #bytesIn = 0;
  #bytesOut = 0;
  #packetsIn = 0;
  #packetsOut = 0;

  countIn(bytes: number): void {
    this.#bytesIn += bytes;
    this.#packetsIn++;
  }

  countOut(bytes: number): void {
    this.#bytesOut += bytes;
    this.#packetsOut++;
  }

  /** Takes back what was counted as coming in: the kernel did not take it in the end. */
  uncountIn(packets: number, bytes: number): void {
    this.#bytesIn -= bytes;
    this.#packetsIn -= packets;
  }

  /** The same for what was counted as going out. */
  uncountOut(packets: number, bytes: number): void {
    this.#bytesOut -= bytes;
    this.#packetsOut -= packets;
  }

  /** Both ways. */
  get packets(): number {
    return this.#packetsIn + this.#packetsOut;
  }

  totals(): TrafficTotals {
    return {
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      packetsIn: this.#packetsIn,
      packetsOut: this.#packetsOut,
    };
  }
}
