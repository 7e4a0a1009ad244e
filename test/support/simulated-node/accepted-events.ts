import { existsSync, openSync, readFileSync, writeSync } from 'node:fs';

/**
 * What simulated nodes accepted: of every epoch the last sequence whose append was acknowledged. It lives outside of the state
 * directories and outlives them. A process that may be killed keeps it in a file, a line for each acknowledgement.
 */
export class AcceptedEvents {
  readonly #lastSeqs = new Map<string, Map<string, number>>();
  /** Where each acknowledgement is noted; opened with the first. */
  #noted: number | undefined;
  readonly #file: string | undefined;

  /** With a file: goes on with what is in it. */
  constructor(file?: string) {
    this.#file = file;
    if (file === undefined || !existsSync(file)) return;
    // A process that was killed may have left half a line.
    for (const line of readFileSync(file, 'utf8').split('\n').slice(0, -1)) {
      const [node, epoch, seq] = line.split(' ');
      if (node && epoch && seq) this.#raise(node, epoch, Number(seq));
    }
  }

  note(node: string, epoch: string, lastSeq: number): void {
    if (!this.#raise(node, epoch, lastSeq) || this.#file === undefined) return;
    this.#noted ??= openSync(this.#file, 'a');
    writeSync(this.#noted, `${node} ${epoch} ${lastSeq}\n`);
  }

  /** One entry an epoch. */
  entries(): { readonly node: string; readonly epoch: string; readonly lastSeq: number }[] {
    return [...this.#lastSeqs].flatMap(([node, epochs]) =>
      [...epochs].map(([epoch, lastSeq]) => ({ node, epoch, lastSeq })),
    );
  }

  /** Events of all epochs. */
  get count(): number {
    return this.entries().reduce((sum, { lastSeq }) => sum + lastSeq, 0);
  }

  /** False when that much was known already. */
  #raise(node: string, epoch: string, lastSeq: number): boolean {
    let epochs = this.#lastSeqs.get(node);
    if (epochs === undefined) {
      epochs = new Map();
      this.#lastSeqs.set(node, epochs);
    }
    if ((epochs.get(epoch) ?? 0) >= lastSeq) return false;
    epochs.set(epoch, lastSeq);
    return true;
  }
}
