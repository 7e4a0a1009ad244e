import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  BLOCK_REQUEST_TIMEOUT_MS,
  type BlockReply,
  type BlockRequest,
  blockReplyMessage,
  blockRequestMessage,
  blockRequestSubject,
} from '../../shared/nats/messages.ts';
import type { Link } from '../control-link/nats-link.ts';

/** Asks the control plane; no answer, also while NATS is away, is `unavailable`. */
export async function requestBlocks(link: Link, request: BlockRequest, log: Logger): Promise<BlockReply> {
  try {
    const { connection } = link;
    if (connection === undefined) return { ok: false, code: 'unavailable', message: 'NATS is away' };
    const reply = await connection.request(blockRequestSubject(request.node), blockRequestMessage.encode(request), {
      timeout: BLOCK_REQUEST_TIMEOUT_MS,
    });
    const answer = blockReplyMessage.decode(reply.data);
    if (!answer.ok && answer.code === 'invalid')
      log.error({ request, reason: answer.message }, 'block request refused');
    return answer;
  } catch (error) {
    log.debug({ reason: describeError(error), op: request.op }, 'a block request was not answered');
    return { ok: false, code: 'unavailable', message: describeError(error) };
  }
}
