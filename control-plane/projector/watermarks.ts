import { sql } from 'kysely';
import type { Msg, NatsConnection, Subscription } from 'nats';
import { CONTROL_NODE } from '../../shared/events/envelope.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  WATERMARK_REQUEST_SUBJECTS,
  type Watermark,
  type WatermarkRequest,
  watermarkMessage,
  watermarkRequestMessage,
  watermarkSubject,
} from '../../shared/nats/messages.ts';
import { nodeOfRequest } from '../../shared/nats/node-permissions.ts';
import { decodeRequestOf } from '../leader/node-request.ts';
import type { Database } from '../storage/database.ts';
import type { AppliedEpoch, StreamPosition } from './apply-batch.ts';

/** Tells nodes what is committed of their spools. A lost one does no harm: nodes ask, and the next one says more. */
export function publishWatermarks(nats: NatsConnection, epochs: readonly AppliedEpoch[], at: StreamPosition): void {
  if (nats.isClosed()) return;
  for (const { node, epoch, appliedSeq } of epochs) {
    if (node === CONTROL_NODE) continue;
    const watermark = { epoch, appliedSeq, streamSeq: at.streamSeq, streamCreated: at.streamCreated ?? '' };
    nats.publish(watermarkSubject(node), watermarkMessage.encode(watermark));
  }
}

/** Every node's newest spool and how far it is applied. */
export async function readAppliedEpochs(database: Database): Promise<AppliedEpoch[]> {
  const rows = await database
    .selectFrom('node_epochs')
    .select(['node', 'epoch', 'applied_seq'])
    .where('current', '=', true)
    .where('node', '<>', CONTROL_NODE)
    .execute();
  return rows.map(({ node, epoch, applied_seq: appliedSeq }) => ({ node, epoch, appliedSeq }));
}

/** What is known of one spool. One statement, so that all of it is of one moment. */
async function readWatermark(database: Database, { node, epoch, reported }: WatermarkRequest): Promise<Watermark> {
  const row = await database
    .selectFrom('event_checkpoint as c')
    .leftJoin('node_epochs as e', (join) => join.on('e.node', '=', node).on('e.epoch', '=', epoch))
    .select(['c.stream_created', 'c.stream_seq', 'e.applied_seq', reportedSeqOf(node, epoch).as('reported_seq')])
    .executeTakeFirstOrThrow();
  const streamCreated = row.stream_created ?? '';
  const watermark = { epoch, appliedSeq: row.applied_seq ?? 0, streamSeq: row.stream_seq, streamCreated };
  return reported ? { ...watermark, reportedSeq: row.reported_seq } : watermark;
}

/** The last event of which its node said that it is on disk, or that waits for one that precedes it. */
const reportedSeqOf = (node: string, epoch: string) => sql<number>`greatest(0,
  (SELECT last_seq FROM spool_reports WHERE node = ${node} AND epoch = ${epoch}),
  (SELECT max(seq) FROM parked_events WHERE node = ${node} AND epoch = ${epoch}))`;

/** Answers nodes that ask. Requests that are invalid or cannot be answered get no reply, and the node asks again. */
export function answerWatermarkRequests(nats: NatsConnection, database: Database, log: Logger): Subscription {
  const answer = async (message: Msg): Promise<void> => {
    try {
      const sender = nodeOfRequest(message);
      const request = decodeRequestOf(sender, 'watermark request', watermarkRequestMessage, message.data);
      message.respond(watermarkMessage.encode(await readWatermark(database, request)));
    } catch (error) {
      log.warn({ err: error }, 'a watermark request was not answered');
    }
  };
  return nats.subscribe(WATERMARK_REQUEST_SUBJECTS, {
    callback: (error, message) => {
      if (error) log.warn({ err: error }, 'watermark requests are not received');
      else void answer(message);
    },
  });
}
