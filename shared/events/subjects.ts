/** Subjects of the event stream: each node may publish to its own only. */
export const EVENT_SUBJECTS = 'vpn.events.>';
export const CONTROL_EVENT_SUBJECT = 'vpn.events.control';

const NODE_EVENT_PREFIX = 'vpn.events.node.';

export function nodeEventSubject(nodeId: string): string {
  return `${NODE_EVENT_PREFIX}${nodeId}`;
}

/** The node that a message is from, by its subject, which permissions of NATS can guard; undefined for a foreign subject. */
export function nodeOfEventSubject(subject: string): string | undefined {
  if (subject === CONTROL_EVENT_SUBJECT) return 'control';
  if (!subject.startsWith(NODE_EVENT_PREFIX)) return undefined;
  const node = subject.slice(NODE_EVENT_PREFIX.length);
  return node === '' || node === 'control' || node.includes('.') ? undefined : node;
}
