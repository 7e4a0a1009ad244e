import type { Assignment } from './assignment-state.ts';

/** Ours: addresses whose assignments are remembered, at about half a kilobyte each; those beyond are read again when they are named. */
const MAX_ADDRESSES = 50_000;
/** Ours: ended assignments that are remembered of an address. */
const MAX_ENDED = 2;

interface Remembered {
  /** Every assignment is there that ends behind this time, milliseconds since 1970. */
  readonly since: number;
  readonly assignments: readonly Assignment[];
}

/**
 * Who holds addresses that were named lately, and who held them before, from one call of `projectEntries` to the next, so that what is
 * released need not be read again. Belongs to a `ProjectionMemory`.
 */
export class AddressMemory {
  private readonly known = new Map<string, Remembered>();
  private readonly limit: number;

  /** `limit`: of addresses. */
  constructor(limit = MAX_ADDRESSES) {
    this.limit = limit;
  }

  /** All assignments of the address that end behind `since`, maybe earlier ones too; undefined where they have to be read. */
  find(address: string, since: number): Remembered | undefined {
    const found = this.known.get(address);
    return found !== undefined && found.since <= since ? found : undefined;
  }

  /** What is stored of an address: all that end behind `since`. */
  remember(address: string, since: number, assignments: readonly Assignment[]): void {
    const ended = assignments.filter(({ until }) => until !== null).sort((a, b) => a.until! - b.until!);
    const forgotten = new Set(ended.slice(0, -MAX_ENDED));
    // Copied, because an array that grew has room for 17.
    const kept = assignments.filter((assignment) => !forgotten.has(assignment)).slice();
    const latest = Math.max(since, ...[...forgotten].map(({ until }) => until!));
    // The oldest ones go.
    this.known.delete(address);
    this.known.set(address, { since: latest, assignments: kept });
    for (const oldest of this.known.keys()) {
      if (this.known.size <= this.limit) break;
      this.known.delete(oldest);
    }
  }

  forgetAddress(address: string): void {
    this.known.delete(address);
  }

  /** Of a block that someone else has ended. */
  forgetBlock(node: string, block: string): void {
    this.forgetWhere((held) => held.node === node && held.block === block);
  }

  /** Of a node from which someone else has taken a block, and with it connections and all that they held. */
  forgetNode(node: string): void {
    this.forgetWhere((held) => held.node === node);
  }

  forget(): void {
    this.known.clear();
  }

  private forgetWhere(matches: (held: Assignment) => boolean): void {
    for (const [address, { assignments }] of this.known) if (assignments.some(matches)) this.known.delete(address);
  }
}
