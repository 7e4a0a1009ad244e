import type { VpnEvent } from '../../../shared/events/envelope.ts';
import {
  assigned,
  at,
  BLOCK,
  closed,
  connectionOf,
  established,
  released,
  SampleNode,
  sampled,
  totals,
} from '../../unit/projections/sample-events.ts';
import { granted, type TestLog } from '../projector/test-log.ts';

const ROUND_SECONDS = 100;

/**
 * Feeds a log with what clusters do: tunnels that begin, move traffic and end, others that stay open, nodes that start anew, are
 * lost or lose their spool, addresses in conflict, refused clients, a block that is taken back. `rounds` of it.
 */
export class BusyLog {
  readonly log: TestLog;
  private readonly nodes = [new SampleNode('node-a'), new SampleNode('node-b'), new SampleNode('node-c')];
  private round = 0;

  constructor(log: TestLog) {
    this.log = log;
  }

  async feed(rounds: number): Promise<void> {
    for (const end = this.round + rounds; this.round < end; this.round++) {
      const start = this.round * ROUND_SECONDS;
      if (this.round % 5 === 0) await this.log.decide(granted('node-a', start, start + ROUND_SECONDS));
      for (const [index, node] of this.nodes.entries()) {
        if (this.round % 7 === 6) node.loseSpool();
        await this.log.deliver(this.eventsOf(node, index, start));
      }
      if (this.round % 3 === 2) await this.loseNode(this.nodes[1]!, start + 60);
      if (this.round % 5 === 4) {
        const data = { ...BLOCK, node: 'node-a', leaseEnd: at(start + 80) };
        await this.log.decide({ type: 'block.reclaimed', at: at(start + 80), data });
      }
    }
  }

  private eventsOf(node: SampleNode, index: number, start: number): VpnEvent[] {
    const { round } = this;
    const address = (last: number) => `10.99.3.${last + 16 * index}`;
    const [ends, stays, clashes] = ['ada', 'bob', 'eve'].map((name) => connectionOf(`${name}-${round % 10}`));
    const latencyMs = { p50: 1.1 + round / 7, p95: 4.3, p99: 9.7 };
    const window = (seconds: number) =>
      sampled(
        node,
        start + seconds,
        [ends!, stays!].map((connection) => ({ ...connection, traffic: totals(1_000 + seconds, 50_000), latencyMs })),
        { packet: 1, other: 0 },
      );
    return [
      ...(round % 4 === 0 ? [node.started(start)] : []),
      established(node, ends!, start + 1),
      assigned(node, ends!, start + 1, address(1)),
      established(node, stays!, start + 2),
      assigned(node, stays!, start + 2, address(2 + (round % 8))),
      window(5),
      established(node, clashes!, start + 6),
      assigned(node, clashes!, start + 6, address(1)),
      window(10),
      closed(node, ends!, start + 12, totals(9_000, 100_500), 11),
      released(node, ends!, start + 12, address(1)),
      node.event('connection.failed', start + 13, {
        remoteAddress: '2001:db8::1',
        clientId: null,
        status: 401,
        reason: 'unknown token',
        errorType: 'auth',
        count: 3,
      }),
    ];
  }

  private async loseNode(node: SampleNode, seconds: number): Promise<void> {
    const open = await this.log.database
      .selectFrom('connections')
      .select(['connection_id', 'client_id'])
      .where('node', '=', node.node)
      .where('state', '=', 'open')
      .execute();
    const { incarnation } = node;
    await this.log.decide(
      { type: 'node.lost', at: at(seconds), data: { node: node.node, incarnation, lastSeenAt: null } },
      ...open.map(({ connection_id: connectionId, client_id: clientId }) => ({
        type: 'connection.presumed_closed' as const,
        at: at(seconds),
        data: { connectionId, clientId, node: node.node, reason: 'node_lost' as const },
      })),
    );
  }
}
