import type { Msg } from 'nats';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { InvalidMessageError, type Message } from '../../shared/nats/messages.ts';
import { nodeOfRequest } from '../../shared/nats/node-permissions.ts';

/** The longest text that a reply carries. */
const MAX_MESSAGE_LENGTH = 500;

/** The node that a request came from; undefined for one that nobody is to be answered, which is logged. `what`: e.g. `block request`. */
export function senderOf(message: Msg, what: string, log: Logger): string | undefined {
  try {
    return nodeOfRequest(message);
  } catch (error) {
    log.warn({ err: error }, `a ${what} was not answered`);
    return undefined;
  }
}

/** What a node asks, which is for itself alone. Throws InvalidMessageError. */
export function decodeRequestOf<T extends { readonly node: string }>(
  node: string,
  what: string,
  request: Message<T>,
  bytes: Uint8Array,
): T {
  const decoded = request.decode(bytes);
  if (decoded.node === node) return decoded;
  throw new InvalidMessageError(what, `of ${decoded.node}, expected one of ${node}, whose subject it is`);
}

/** Why a request is refused, as a reply says it. */
export function refusalText(error: unknown): string {
  return describeError(error).slice(0, MAX_MESSAGE_LENGTH);
}
