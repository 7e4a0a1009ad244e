/**
 * Addresses and names of one cluster's network, as plain data. Everything is from the ranges that are set aside for
 * documentation (RFC 5737, RFC 3849), so no address of the host's own network can be hit. Sixteen slots share them:
 *
 *     198.51.100.<16 slot>/28, 2001:db8:<slot>::/64   the segment on which root, nodes and clients meet
 *         +1 root (NATS, control plane)   +2 to +5 nodes   +6 to +14 clients
 *     192.0.2.<16 slot + 4 node>/30, 2001:db8:<100 + slot>:<node>::/64   behind one node: +1 the node, +2 the server
 */
export const SLOTS = 16;
export const MAX_NODES = 4;
export const MAX_CLIENTS = 9;

const FIRST_NODE = 2;
const FIRST_CLIENT = 6;

export interface SegmentPlace {
  readonly id: string;
  readonly namespace: string;
  readonly address: string;
  readonly address6: string;
}

export interface BehindPlace {
  readonly namespace: string;
  readonly prefix: string;
  readonly prefix6: string;
  readonly gateway: string;
  readonly gateway6: string;
  readonly address: string;
  readonly address6: string;
}

export interface NodePlace extends SegmentPlace {
  /** A server that is reached through this node's tunnels only. */
  readonly behind: BehindPlace;
}

export interface TopologyPlan {
  readonly slot: number;
  /** The veth end in the root namespace. */
  readonly rootInterface: string;
  readonly hubNamespace: string;
  readonly rootAddress: string;
  readonly rootAddress6: string;
  readonly nodes: readonly NodePlace[];
  readonly clients: readonly SegmentPlace[];
  /** Covers what is behind all nodes: the routes of a client. */
  readonly behindPrefixes: readonly string[];
}

export const slotPrefix = (slot: number): string => `mv${slot}`;

/** Throws RangeError when there are more nodes or clients than a slot has addresses for. */
export function planTopology(
  slot: number,
  spec: { readonly nodes: readonly string[]; readonly clients: readonly string[] },
): TopologyPlan {
  if (slot < 0 || slot >= SLOTS) throw new RangeError(`slot ${slot}: expected 0 to ${SLOTS - 1}`);
  if (spec.nodes.length > MAX_NODES) throw new RangeError(`${spec.nodes.length} nodes: at most ${MAX_NODES}`);
  if (spec.clients.length > MAX_CLIENTS) throw new RangeError(`${spec.clients.length} clients: at most ${MAX_CLIENTS}`);
  const prefix = slotPrefix(slot);
  const v4 = (host: number) => `198.51.100.${16 * slot + host}`;
  const v6 = (host: number) => `2001:db8:${slot.toString(16)}::${host.toString(16)}`;
  const place = (id: string, host: number): SegmentPlace => ({
    id,
    namespace: `${prefix}-${id}`,
    address: v4(host),
    address6: v6(host),
  });
  const behindBase6 = `2001:db8:${(0x100 + slot).toString(16)}`;
  return {
    slot,
    rootInterface: prefix,
    hubNamespace: `${prefix}-hub`,
    rootAddress: v4(1),
    rootAddress6: v6(1),
    nodes: spec.nodes.map((id, index) => {
      const base = 16 * slot + 4 * index;
      return {
        ...place(id, FIRST_NODE + index),
        behind: {
          namespace: `${prefix}-${id}-lan`,
          prefix: `192.0.2.${base}/30`,
          prefix6: `${behindBase6}:${index}::/64`,
          gateway: `192.0.2.${base + 1}`,
          gateway6: `${behindBase6}:${index}::1`,
          address: `192.0.2.${base + 2}`,
          address6: `${behindBase6}:${index}::2`,
        },
      };
    }),
    clients: spec.clients.map((id, index) => place(id, FIRST_CLIENT + index)),
    behindPrefixes: [`192.0.2.${16 * slot}/28`, `${behindBase6}::/48`],
  };
}
