import type { Msg, NatsConnection } from 'nats';
import { errorCode } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { InvalidMessageError } from '../../shared/nats/messages.ts';
import {
  STATIC_REQUEST_SUBJECTS,
  type StaticReply,
  staticReplyMessage,
  staticRequestMessage,
} from '../../shared/nats/static-address-messages.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import { decodeRequestOf, refusalText, senderOf } from '../leader/node-request.ts';
import { NotLeaderError, type Term } from '../storage/term.ts';
import type { StaticAddressService } from './static-address-service.ts';

const WHAT = 'static address request';

/** Answers requests of nodes about static addresses, each by itself: one may wait for what another one brings. */
export function staticAddressRpc(nats: NatsConnection, service: StaticAddressService, log: Logger): LeaderService {
  return {
    name: 'static addresses',
    async run(term) {
      const subscription = nats.subscribe(STATIC_REQUEST_SUBJECTS);
      const stop = () => subscription.unsubscribe();
      term.signal.addEventListener('abort', stop, { once: true });
      try {
        for await (const message of subscription) {
          if (term.signal.aborted) return;
          const node = senderOf(message, WHAT, log);
          if (node !== undefined) void respond(term, service, node, message, log);
        }
      } finally {
        term.signal.removeEventListener('abort', stop);
        subscription.unsubscribe();
      }
    },
  };
}

async function respond(
  term: Term,
  service: StaticAddressService,
  node: string,
  message: Msg,
  log: Logger,
): Promise<void> {
  const reply = await answer(term, service, node, message, log);
  try {
    if (!term.signal.aborted) message.respond(staticReplyMessage.encode(reply));
  } catch (error) {
    log.debug({ err: error }, 'a static address request cannot be answered');
  }
}

async function answer(
  term: Term,
  service: StaticAddressService,
  node: string,
  message: Msg,
  log: Logger,
): Promise<StaticReply> {
  try {
    const request = decodeRequestOf(node, WHAT, staticRequestMessage, message.data);
    const reply = await service.handle(term, request);
    log.debug({ request, reply }, 'static address request');
    if (!reply.ok) log.warn({ request, code: reply.code, reason: reply.message }, 'static address refused');
    return reply;
  } catch (error) {
    log.warn({ err: error }, 'static address request failed');
    return { ok: false, code: refusalCode(error), message: refusalText(error) };
  }
}

function refusalCode(error: unknown): 'invalid' | 'not_leader' | 'unavailable' {
  if (error instanceof NotLeaderError) return 'not_leader';
  return error instanceof InvalidMessageError || errorCode(error) === 'INVALID_ADDRESS' ? 'invalid' : 'unavailable';
}
