/** What a peer can have too much of. README says of each how much that is, and what follows. */
export const LIMITS = [
  'connections',
  'handshakes',
  'handshake_time',
  'tunnel_time',
  'streams',
  'request_time',
  'request_head',
  'settings',
  'refused_content',
  'capsule',
  'address_requests',
  'tunnels_per_client',
] as const;
export type Limit = (typeof LIMITS)[number];

export const NO_LIMITS_EXCEEDED = Object.fromEntries(LIMITS.map((limit) => [limit, 0])) as Record<Limit, number>;

/** How often each limit was exceeded, since the thread started or from where its predecessor was. */
export class LimitCounters {
  readonly #counts: Record<Limit, number>;

  constructor(before: Readonly<Record<Limit, number>> = NO_LIMITS_EXCEEDED) {
    this.#counts = { ...before };
  }

  count(limit: Limit | undefined): void {
    if (limit !== undefined) this.#counts[limit]++;
  }

  snapshot(): Record<Limit, number> {
    return { ...this.#counts };
  }
}
