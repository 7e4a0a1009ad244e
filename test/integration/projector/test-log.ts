import { sql } from 'kysely';
import { type BlockEvent, newBlock } from '../../../control-plane/blocks/block-aggregate.ts';
import { loadBlocks, saveChanges } from '../../../control-plane/blocks/block-store.ts';
import { appendControlEvents } from '../../../control-plane/log/append-control-events.ts';
import { foldTraffic } from '../../../control-plane/projections/fold-traffic.ts';
import { ProjectionMemory } from '../../../control-plane/projections/projection-memory.ts';
import {
  applyBatch,
  type BatchResult,
  type BatchWork,
  readCheckpoint,
} from '../../../control-plane/projector/apply-batch.ts';
import { readMessage } from '../../../control-plane/projector/read-message.ts';
import type { Database, DatabaseTransaction } from '../../../control-plane/storage/database.ts';
import { encodeEvents, type NewEvent, type VpnEvent } from '../../../shared/events/envelope.ts';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import {
  assigned,
  at,
  BLOCK,
  closed,
  connectionOf,
  established,
  randomId,
  released,
  type SampleNode,
  sampled,
  totals,
} from '../../unit/projections/sample-events.ts';
import { beginTerm, type TestPostgres } from './projector-database.ts';

/** A database in one term, fed as by a stream. */
export class TestLog {
  database: Database;
  readonly ownerEpoch: number;
  /** What each batch does of traffic. */
  fold: NonNullable<BatchWork['fold']> = foldTraffic;
  private streamSeq = 0;
  private readonly memory = new ProjectionMemory();

  constructor(database: Database, ownerEpoch: number) {
    this.database = database;
    this.ownerEpoch = ownerEpoch;
  }

  /** In a new database. */
  static async open(postgres: TestPostgres): Promise<TestLog> {
    const database = await postgres.database();
    return new TestLog(database, await beginTerm(database));
  }

  /** Each argument is one message of the first event's node. */
  async deliver(...messages: ReadonlyArray<readonly VpnEvent[]>): Promise<BatchResult> {
    return await this.deliverRaw(
      ...messages.map((events) => ({
        subject: nodeEventSubject(events[0]?.node ?? 'node-a'),
        data: encodeEvents(events),
      })),
    );
  }

  async deliverRaw(...messages: ReadonlyArray<{ subject: string; data: Uint8Array }>): Promise<BatchResult> {
    const from = await readCheckpoint(this.database);
    const read = messages.map((message) => readMessage({ ...message, streamSeq: ++this.streamSeq }));
    const to = { streamCreated: 'stream', streamSeq: this.streamSeq };
    const { memory, fold } = this;
    return await applyBatch(this.database, this.ownerEpoch, from, to, read, { memory, fold });
  }

  /** Counts from now on what is read from the database: rows, and events among them. */
  countRows(): { rows: number; envelopes: number } {
    const read = { rows: 0, envelopes: 0 };
    this.database = this.database.withPlugin({
      transformQuery: ({ node }) => node,
      async transformResult({ result }) {
        read.rows += result.rows.length;
        read.envelopes += result.rows.filter((row) => row.envelope !== undefined).length;
        return result;
      },
    });
    return read;
  }

  /** What the control plane decides, whatever it would; blocks are left as their events say. */
  async decide(...events: NewEvent[]): Promise<VpnEvent[]> {
    const author = { ownerEpoch: this.ownerEpoch, incarnation: randomId() };
    return await this.database.transaction().execute(async (trx) => {
      const appended = await appendControlEvents(trx, author, events);
      for (const event of events) if (event.type.startsWith('block.')) await saveBlock(trx, event as BlockEvent);
      return appended;
    });
  }

  async connection(connectionId: string) {
    return await this.database
      .selectFrom('connections')
      .selectAll()
      .where('connection_id', '=', connectionId)
      .executeTakeFirstOrThrow();
  }

  async holders(address: string, seconds: number) {
    const { rows } = await sql<Record<string, unknown>>`
      SELECT * FROM address_holders(${address}::inet, ${at(seconds)}::timestamptz)`.execute(this.database);
    return rows;
  }
}

async function saveBlock(trx: DatabaseTransaction, event: BlockEvent): Promise<void> {
  const { block, pool } = event.data;
  const before = (await loadBlocks(trx, [block])).get(block) ?? newBlock(block, pool);
  await saveChanges(trx, [{ before, event }]);
}

export const granted = (node: string, seconds: number, leaseEnd: number): NewEvent => ({
  type: 'block.granted',
  at: at(seconds),
  data: { ...BLOCK, node, leaseEnd: at(leaseEnd) },
});

/** A tunnel of one client from begin to end. */
export function lifeOf(node: SampleNode, clientId: string): VpnEvent[] {
  const connection = connectionOf(clientId);
  const latencyMs = { p50: 1.5, p95: 4, p99: 9 };
  return [
    node.started(0),
    established(node, connection, 1),
    assigned(node, connection, 1),
    sampled(node, 6, [{ ...connection, traffic: totals(5000, 625_000), rttMs: 1.2, latencyMs, lossPercent: 0 }]),
    sampled(node, 11, [{ ...connection, traffic: totals(1000, 2000) }], { packet: 2, other: 1 }),
    closed(node, connection, 12, totals(6500, 627_000), 11),
    released(node, connection, 12),
    node.event('connection.failed', 13, {
      remoteAddress: '2001:db8::1',
      clientId: null,
      status: 401,
      reason: 'unknown token',
      errorType: 'auth',
      count: 3,
    }),
  ];
}
