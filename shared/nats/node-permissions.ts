import { nodeEventSubject } from '../events/subjects.ts';
import {
  blockNoticeSubject,
  blockRequestSubject,
  InvalidMessageError,
  presenceSubject,
  watermarkRequestSubject,
  watermarkSubject,
} from './messages.ts';
import { staticReleaseSubject, staticRequestSubject } from './static-address-messages.ts';
import { CREDENTIALS_BUCKET, EVENT_STREAM } from './streams.ts';

const BUCKET_STREAM = `KV_${CREDENTIALS_BUCKET}`;

/** The name of a node's NATS user. The dot keeps it apart from every other user's, whatever the node is called. */
export const nodeUser = (nodeId: string): string => `node.${nodeId}`;

/** Where a node gets its replies and its credentials; no other node may listen there. */
export const nodeInbox = (nodeId: string): string => `_INBOX_${nodeId}`;

/** The subjects that a node needs and no others, as NATS permissions. */
export interface NodePermissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

export function nodePermissions(nodeId: string): NodePermissions {
  return {
    publish: [
      nodeEventSubject(nodeId),
      presenceSubject(nodeId),
      blockRequestSubject(nodeId),
      staticRequestSubject(nodeId),
      watermarkRequestSubject(nodeId),
      // Which stream it is that acknowledges, and whether the watch of the bucket has seen all.
      `$JS.API.STREAM.INFO.${EVENT_STREAM}`,
      `$JS.API.STREAM.INFO.${BUCKET_STREAM}`,
      // The watch: with the consumer's name at first, without it when the client makes its consumer anew.
      `$JS.API.CONSUMER.CREATE.${BUCKET_STREAM}`,
      `$JS.API.CONSUMER.CREATE.${BUCKET_STREAM}.>`,
      `$JS.FC.${BUCKET_STREAM}.>`,
    ],
    subscribe: [
      watermarkSubject(nodeId),
      blockNoticeSubject(nodeId),
      staticReleaseSubject(nodeId),
      `${nodeInbox(nodeId)}.>`,
    ],
  };
}

/**
 * The node that sent a request, by its subject, which permissions guard. Throws InvalidMessageError when the answer is
 * wanted outside of that node's inbox: it would go out with the rights of who answers.
 */
export function nodeOfRequest(message: { readonly subject: string; readonly reply?: string }): string {
  const node = message.subject.slice(message.subject.lastIndexOf('.') + 1);
  if (message.reply?.startsWith(`${nodeInbox(node)}.`)) return node;
  const expected = `expected a reply subject below ${nodeInbox(node)}`;
  throw new InvalidMessageError('request', `${message.subject} wants its answer at ${message.reply}, ${expected}`);
}
