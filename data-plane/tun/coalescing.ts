import { PROTOCOL } from '../ip/protocol.ts';
import { createFlowPacket, inspectFlow } from './flow-packet.ts';
import { FlowRun } from './flow-run.ts';

/** Flows whose packets are collected at the same time (ours), 64 KiB each. One more flow makes the oldest run leave early. */
export const MAX_RUNS = 8;

/** Where finished runs and packets that stay alone go. */
export interface CoalescingOutput<Owner> {
  /** A finished run: its buffer holds a vnet header and a packet. Good until it returns. */
  writeRun(run: FlowRun<Owner>, owner: Owner): void;
  /** One packet as it came. */
  writeAlone(bytes: Uint8Array, offset: number, length: number, owner: Owner): void;
}

/**
 * Puts consecutive packets of one flow together, so that the kernel takes them in one piece. Packets of one flow leave in the order in which
 * they came; those of different flows can overtake each other. Nothing leaves by itself: `flush` after each batch.
 */
export class Coalescing<Owner> {
  readonly #output: CoalescingOutput<Owner>;
  readonly #udp: boolean;
  readonly #runs = Array.from({ length: MAX_RUNS }, () => new FlowRun<Owner>());
  readonly #packet = createFlowPacket();
  #stopped = false;
  #used = 0;
  #oldest = 0;

  /** `udp`: whether the kernel cuts UDP. */
  constructor(output: CoalescingOutput<Owner>, options: { readonly udp: boolean }) {
    this.#output = output;
    this.#udp = options.udp;
  }

  /** Takes one IP packet, copying it or handing it on. Only packets with the same owner are put together. */
  add(bytes: Uint8Array, offset: number, length: number, owner: Owner): void {
    const packet = this.#packet;
    const verdict = inspectFlow(bytes, offset, length, packet);
    if (verdict === 'other') {
      this.flush(); // a fragment, for instance, is of a flow that it does not tell
      this.#output.writeAlone(bytes, offset, length, owner);
      return;
    }
    const known = this.#used === 0 ? undefined : this.#find(bytes, offset);
    const joins = verdict === 'run' && !this.#stopped && (this.#udp || packet.protocol !== PROTOCOL.udp);
    if (known !== undefined) {
      if (joins && known.add(bytes, offset, packet, owner)) return;
      this.#finish(known);
    }
    if (!joins) {
      this.#output.writeAlone(bytes, offset, length, owner);
      return;
    }
    (known ?? this.#freeRun()).begin(bytes, offset, packet, owner);
    this.#used++;
  }

  /** From now on nothing is put together. */
  stop(): void {
    this.#stopped = true;
  }

  /** Hands out all that was collected. */
  flush(): void {
    for (const run of this.#runs) {
      if (this.#used === 0) return;
      if (run.packets > 0) this.#finish(run);
    }
  }

  #find(bytes: Uint8Array, offset: number): FlowRun<Owner> | undefined {
    for (const run of this.#runs) if (run.isOf(bytes, offset, this.#packet)) return run;
    return undefined;
  }

  #freeRun(): FlowRun<Owner> {
    for (const run of this.#runs) if (run.packets === 0) return run;
    const run = this.#runs[this.#oldest]!;
    this.#oldest = (this.#oldest + 1) % MAX_RUNS;
    this.#finish(run);
    return run;
  }

  #finish(run: FlowRun<Owner>): void {
    const owner = run.owner as Owner;
    this.#used--;
    try {
      run.finish();
      this.#output.writeRun(run, owner);
    } finally {
      run.clear();
    }
  }
}
