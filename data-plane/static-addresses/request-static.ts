import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  type StaticReply,
  type StaticRequest,
  staticReplyMessage,
  staticRequestMessage,
  staticRequestSubject,
} from '../../shared/nats/static-address-messages.ts';
import type { Link } from '../control-link/nats-link.ts';

/** Ours: the control plane itself may wait 2 s for the node that has the address. */
const REQUEST_TIMEOUT_MS = 4_000;

/** Asks the control plane; no answer, also while NATS is away, is `unavailable`. */
export async function requestStatic(link: Link, request: StaticRequest, log: Logger): Promise<StaticReply> {
  try {
    const { connection } = link;
    if (connection === undefined) return { ok: false, code: 'unavailable', message: 'NATS is away' };
    const subject = staticRequestSubject(request.node);
    const reply = await connection.request(subject, staticRequestMessage.encode(request), {
      timeout: REQUEST_TIMEOUT_MS,
    });
    const answer = staticReplyMessage.decode(reply.data);
    if (!answer.ok && answer.code === 'invalid')
      log.error({ request, reason: answer.message }, 'static address request refused');
    return answer;
  } catch (error) {
    log.debug({ reason: describeError(error), op: request.op }, 'a static address request was not answered');
    return { ok: false, code: 'unavailable', message: `the control plane does not answer: ${describeError(error)}` };
  }
}
