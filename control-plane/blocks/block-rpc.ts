import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, NatsConnection } from 'nats';
import type { Logger } from '../../shared/log/logger.ts';
import {
  BLOCK_REQUEST_SUBJECTS,
  BLOCK_REQUEST_TIMEOUT_MS,
  type BlockReply,
  type BlockRequest,
  blockReplyMessage,
  blockRequestMessage,
} from '../../shared/nats/messages.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import { decodeRequestOf, refusalText, senderOf } from '../leader/node-request.ts';
import { NotLeaderError, type Term } from '../storage/term.ts';
import type { BlockService } from './block-service.ts';
import { RequestQueue } from './request-queue.ts';

/** Between two looks for leases that ended (ours); they end to the second only for their nodes. */
const RECLAIM_INTERVAL_MS = 5_000;
/** Requests decided in one transaction (ours): it holds the lock of the log. */
const MAX_BATCH = 50;
const WHAT = 'block request';

interface Asked {
  readonly request: BlockRequest;
  readonly message: Msg;
}

/** Answers block requests of nodes, as many in one transaction as have come: they would wait for the same lock anyway. */
export function blockRpc(nats: NatsConnection, blocks: BlockService, log: Logger): LeaderService {
  return {
    name: 'block requests',
    async run(term) {
      const queue = new RequestQueue<Asked>(BLOCK_REQUEST_TIMEOUT_MS);
      let arrival = Promise.withResolvers<void>();
      const wake = () => arrival.resolve();
      const subscription = nats.subscribe(BLOCK_REQUEST_SUBJECTS, {
        callback: (error, message) => {
          if (error) log.warn({ err: error }, 'block requests are not received');
          const request = error ? undefined : read(message, log);
          if (request !== undefined) queue.add({ request, message }, performance.now());
          wake();
        },
      });
      term.signal.addEventListener('abort', wake, { once: true });
      try {
        while (!term.signal.aborted) {
          const asked = queue.take(MAX_BATCH, performance.now());
          if (asked.length > 0) {
            await answerAll(term, blocks, asked, log);
          } else {
            await arrival.promise;
            arrival = Promise.withResolvers();
          }
        }
      } finally {
        term.signal.removeEventListener('abort', wake);
        subscription.unsubscribe();
      }
    },
  };
}

/** Takes back blocks whose lease ended, as long as the term lasts. */
export function blockReclaim(blocks: BlockService, log: Logger): LeaderService {
  return {
    name: 'block reclaim',
    async run(term) {
      while (!term.signal.aborted) {
        const reclaimed = await blocks.reclaimExpired(term);
        if (reclaimed.length > 0) log.warn({ blocks: reclaimed }, 'leases ended, blocks taken back');
        await delay(RECLAIM_INTERVAL_MS, undefined, { signal: term.signal }).catch(() => undefined);
      }
    },
  };
}

/** Undefined for a request that is answered already, or by nobody. */
function read(message: Msg, log: Logger): BlockRequest | undefined {
  const node = senderOf(message, WHAT, log);
  if (node === undefined) return undefined;
  try {
    return decodeRequestOf(node, WHAT, blockRequestMessage, message.data);
  } catch (error) {
    log.warn({ err: error }, 'a block request is invalid');
    message.respond(blockReplyMessage.encode(refusal('invalid', error)));
    return undefined;
  }
}

async function answerAll(term: Term, blocks: BlockService, asked: readonly Asked[], log: Logger): Promise<void> {
  let replies: readonly BlockReply[];
  try {
    replies = await blocks.handleAll(
      term,
      asked.map(({ request }) => request),
    );
  } catch (error) {
    log.warn({ err: error, requests: asked.length }, 'block requests failed');
    // The leader of the next term has them too.
    if (error instanceof NotLeaderError) return;
    replies = asked.map(() => refusal('unavailable', error));
  }
  for (const [i, { request, message }] of asked.entries()) {
    const reply = replies[i] as BlockReply;
    log.debug({ request, reply }, 'block request');
    if (!reply.ok) log.warn({ node: request.node, op: request.op, code: reply.code }, 'block request refused');
    message.respond(blockReplyMessage.encode(reply));
  }
}

function refusal(code: 'invalid' | 'unavailable', error: unknown): BlockReply {
  return { ok: false, code, message: refusalText(error) };
}
