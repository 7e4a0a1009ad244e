import { sql } from 'kysely';
import { CONTROL_NODE, type VpnEvent } from '../../shared/events/envelope.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite } from '../storage/insert-rows.ts';
import type { NodesTable } from '../storage/tables.ts';

/** Times are milliseconds since 1970. */
export interface Node {
  readonly node: string;
  readonly epoch: string;
  readonly incarnation: string;
  readonly state: NodesTable['state'];
  readonly softwareVersion: string | null;
  readonly listen: string | null;
  readonly tunnelMtu: number | null;
  readonly startedAt: number | null;
  readonly stoppedAt: number | null;
  readonly lostAt: number | null;
  readonly lastEventAt: number;
}

/** What an event says about its node beyond the event's own subject. */
export type NodeNews =
  | { readonly type: 'none' }
  /** A new process of the node: what the earlier ones left open is over since `lastSignAt`. */
  | { readonly type: 'new_incarnation'; readonly lastSignAt: number };

export interface NodeStep {
  readonly node: Node;
  readonly news: NodeNews;
}

const NO_NEWS: NodeNews = { type: 'none' };

/** The node after one of its own events. */
export function evolveNode(before: Node | undefined, event: VpnEvent): NodeStep {
  const at = Date.parse(event.at);
  if (before === undefined) return { node: withEvent(newNode(event, at), event, at), news: NO_NEWS };
  if (isNewIncarnation(before, event)) {
    // A clock that was set back must not end connections after the start that ended them.
    const lastSignAt = Math.min(before.lastEventAt, at);
    return { node: withEvent(newNode(event, at), event, at), news: { type: 'new_incarnation', lastSignAt } };
  }
  if (event.incarnation !== before.incarnation) return { node: before, news: NO_NEWS };
  return { node: withEvent(before, event, at), news: NO_NEWS };
}

/** The node after it was declared lost. An incarnation that is not its newest any more cannot be lost. */
export function loseNode(before: Node | undefined, incarnation: string, at: number): Node | undefined {
  if (before?.incarnation !== incarnation || before.state === 'stopped') return before;
  return { ...before, state: 'lost', lostAt: at };
}

/** Within one spool every change of incarnation is a new process; across spools only `node.started` is one for certain. */
function isNewIncarnation(before: Node, event: VpnEvent): boolean {
  return event.incarnation !== before.incarnation && (event.type === 'node.started' || event.epoch === before.epoch);
}

function newNode(event: VpnEvent, at: number): Node {
  return {
    node: event.node,
    epoch: event.epoch,
    incarnation: event.incarnation,
    state: 'up',
    softwareVersion: null,
    listen: null,
    tunnelMtu: null,
    startedAt: null,
    stoppedAt: null,
    lostAt: null,
    lastEventAt: at,
  };
}

function withEvent(before: Node, event: VpnEvent, at: number): Node {
  const heard = { ...before, lastEventAt: Math.max(before.lastEventAt, at) };
  const back = heard.state === 'lost' && heard.lostAt !== null && at > heard.lostAt;
  const node: Node = back ? { ...heard, state: 'up', lostAt: null } : heard;
  switch (event.type) {
    case 'node.started': {
      const { softwareVersion, listen, tunnelMtu } = event.data;
      return { ...node, softwareVersion, listen, tunnelMtu, startedAt: at };
    }
    case 'node.draining':
      return { ...node, state: 'draining' };
    case 'node.stopped':
      return { ...node, state: 'stopped', stoppedAt: at };
    default:
      return node;
  }
}

const COLUMNS: Readonly<Record<string, Column<Node>>> = {
  node: { type: 'text', value: (row) => row.node },
  epoch: { type: 'text', value: (row) => row.epoch },
  incarnation: { type: 'text', value: (row) => row.incarnation },
  state: { type: 'text', value: (row) => row.state },
  software_version: { type: 'text', value: (row) => row.softwareVersion },
  listen: { type: 'text', value: (row) => row.listen },
  tunnel_mtu: { type: 'integer', value: (row) => row.tunnelMtu },
  started_at: { type: 'timestamptz', value: (row) => row.startedAt },
  stopped_at: { type: 'timestamptz', value: (row) => row.stoppedAt },
  lost_at: { type: 'timestamptz', value: (row) => row.lostAt },
  last_event_at: { type: 'timestamptz', value: (row) => row.lastEventAt },
};

/** Projects what nodes say of themselves, and what the presence watch says of them. */
export class NodesProjection {
  private readonly dirty = new Set<string>();
  private readonly nodes: Map<string, Node>;

  private constructor(nodes: Map<string, Node>) {
    this.nodes = nodes;
  }

  static async load(trx: DatabaseTransaction, entries: readonly LogEntry[]): Promise<NodesProjection> {
    const names = new Set(entries.map(({ event }) => (event.type === 'node.lost' ? event.data.node : event.node)));
    names.delete(CONTROL_NODE);
    const rows =
      names.size === 0
        ? []
        : await trx
            .selectFrom('nodes')
            .selectAll()
            .where('node', '=', sql<string>`any(${[...names]}::text[])`)
            .execute();
    return new NodesProjection(
      new Map(
        rows.map((row) => [
          row.node,
          {
            node: row.node,
            epoch: row.epoch,
            incarnation: row.incarnation,
            state: row.state,
            softwareVersion: row.software_version,
            listen: row.listen,
            tunnelMtu: row.tunnel_mtu,
            startedAt: row.started_at?.getTime() ?? null,
            stoppedAt: row.stopped_at?.getTime() ?? null,
            lostAt: row.lost_at?.getTime() ?? null,
            lastEventAt: row.last_event_at.getTime(),
          },
        ]),
      ),
    );
  }

  get(name: string): Node | undefined {
    return this.nodes.get(name);
  }

  apply({ event, retryOf }: LogEntry): NodeNews {
    if (event.type === 'node.lost') {
      this.set(loseNode(this.nodes.get(event.data.node), event.data.incarnation, Date.parse(event.at)));
      return NO_NEWS;
    }
    if (event.node === CONTROL_NODE) return NO_NEWS;
    // What a node said long ago says nothing of its present process, least of all that it is a new one.
    if (retryOf !== undefined && this.nodes.has(event.node)) return NO_NEWS;
    const { node, news } = evolveNode(this.nodes.get(event.node), event);
    this.set(node);
    return news;
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const rows = [...this.dirty].map((name) => this.nodes.get(name)!);
    await insertRows(trx, 'nodes', COLUMNS, rows, overwrite(['node'], COLUMNS));
  }

  private set(node: Node | undefined): void {
    if (node === undefined || this.nodes.get(node.node) === node) return;
    this.nodes.set(node.node, node);
    this.dirty.add(node.node);
  }
}
