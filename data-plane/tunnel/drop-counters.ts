/** Why a packet or datagram was dropped. The first group says that a peer is at fault: an error, not an overload. */
export const PACKET_ERRORS = ['malformed', 'source', 'scope'] as const;
export const DROP_REASONS = [
  ...PACKET_ERRORS,
  /** A datagram for a stream that carries no tunnel, or for an unknown context. */
  'no_tunnel',
  'unknown_context',
  /** A packet for an address that no tunnel has. */
  'no_client',
  'too_big',
  /** A queue of the client's is full: of packets to it, or in a WebTransport session of the web thread from it. */
  'queue_full',
  /** The kernel did not take it. */
  'tun',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export const NO_DROPS = Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as Record<DropReason, number>;

/** Dropped packets by reason, since the thread started or from where its predecessor was. */
export class DropCounters {
  readonly #counts: Record<DropReason, number>;

  constructor(before: Readonly<Record<DropReason, number>> = NO_DROPS) {
    this.#counts = { ...before };
  }

  count(reason: DropReason, packets = 1): void {
    this.#counts[reason] += packets;
  }

  snapshot(): Record<DropReason, number> {
    return { ...this.#counts };
  }

  /** Packets that failed the node's checks. */
  get packetErrors(): number {
    return PACKET_ERRORS.reduce((sum, reason) => sum + this.#counts[reason], 0);
  }
}
