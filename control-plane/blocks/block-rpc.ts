import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, NatsConnection } from 'nats';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  BLOCK_REQUEST_SUBJECTS,
  type BlockReply,
  blockReplyMessage,
  blockRequestMessage,
  InvalidMessageError,
} from '../../shared/nats/messages.ts';
import { nodeOfRequest } from '../../shared/nats/node-permissions.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import { NotLeaderError, type Term } from '../storage/term.ts';
import type { BlockService } from './block-service.ts';

/** Between two looks for leases that ended (ours); they end to the second only for their nodes. */
const RECLAIM_INTERVAL_MS = 5_000;
/** The longest text that a reply carries. */
const MAX_MESSAGE_LENGTH = 500;

/** Answers block requests of nodes, one after the other: they would wait for the same lock anyway. */
export function blockRpc(nats: NatsConnection, blocks: BlockService, log: Logger): LeaderService {
  return {
    name: 'block requests',
    async run(term) {
      const subscription = nats.subscribe(BLOCK_REQUEST_SUBJECTS);
      const stop = () => subscription.unsubscribe();
      term.signal.addEventListener('abort', stop, { once: true });
      try {
        for await (const message of subscription) {
          if (term.signal.aborted) return;
          const node = senderOf(message, log);
          if (node === undefined) continue;
          const reply = await answer(term, blocks, node, message, log);
          message.respond(blockReplyMessage.encode(reply));
        }
      } finally {
        term.signal.removeEventListener('abort', stop);
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

/** Undefined for a request that nobody is to be answered. */
function senderOf(message: Msg, log: Logger): string | undefined {
  try {
    return nodeOfRequest(message);
  } catch (error) {
    log.warn({ err: error }, 'a block request was not answered');
    return undefined;
  }
}

async function answer(term: Term, blocks: BlockService, node: string, message: Msg, log: Logger): Promise<BlockReply> {
  try {
    const request = blockRequestMessage.decode(message.data);
    if (request.node !== node) {
      throw new InvalidMessageError(
        'block request',
        `of ${request.node}, expected one of ${node}, whose subject it is`,
      );
    }
    const reply = await blocks.handle(term, request);
    log.debug({ request, reply }, 'block request');
    if (!reply.ok) log.warn({ node: request.node, op: request.op, code: reply.code }, 'block request refused');
    return reply;
  } catch (error) {
    log.warn({ err: error }, 'block request failed');
    return { ok: false, code: refusalCode(error), message: describeError(error).slice(0, MAX_MESSAGE_LENGTH) };
  }
}

function refusalCode(error: unknown): 'invalid' | 'not_leader' | 'unavailable' {
  if (error instanceof InvalidMessageError) return 'invalid';
  return error instanceof NotLeaderError ? 'not_leader' : 'unavailable';
}
