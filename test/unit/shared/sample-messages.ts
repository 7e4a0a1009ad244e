import {
  blockNoticeMessage,
  blockReplyMessage,
  blockRequestMessage,
  credentialMessage,
  type Message,
  presenceMessage,
  watermarkMessage,
  watermarkRequestMessage,
} from '../../../shared/nats/messages.ts';
import {
  staticReleaseMessage,
  staticReplyMessage,
  staticRequestMessage,
} from '../../../shared/nats/static-address-messages.ts';

const id = '0123456789abcdef'.repeat(2);
export const credential = {
  clientId: 'client-1',
  version: 3,
  state: 'active',
  tokenSha256: 'f'.repeat(64),
  updatedAt: '2026-01-02T03:04:05.678Z',
} as const;

/** Good messages of each kind. */
export const samples: readonly (readonly [Message<never>, readonly object[]])[] = [
  [
    presenceMessage as Message<never>,
    [
      { epoch: id, incarnation: id },
      { epoch: id, incarnation: id, lastSeq: 7 },
    ],
  ],
  [
    watermarkMessage as Message<never>,
    [
      { epoch: id, appliedSeq: 0, streamSeq: 9, streamCreated: 'x' },
      { epoch: id, appliedSeq: 0, streamSeq: 9, streamCreated: 'x', reportedSeq: 7 },
    ],
  ],
  [
    watermarkRequestMessage as Message<never>,
    [
      { node: 'node-a', epoch: id },
      { node: 'node-a', epoch: id, reported: true },
    ],
  ],
  [
    blockRequestMessage as Message<never>,
    [
      { op: 'acquire', node: 'node-a', family: 4, requestId: id },
      { op: 'acquire', node: 'node-a', family: 6, requestId: id, pool: 'office', remembers: true },
      { op: 'renew', node: 'node-a', blocks: ['10.99.0.0/26', 'fd00:99::/120'] },
      { op: 'return', node: 'node-a', blocks: [] },
    ],
  ],
  [
    blockReplyMessage as Message<never>,
    [
      { ok: true, leases: [{ block: '10.99.0.0/26', pool: '10.99.0.0/16', leaseSeconds: 3600 }], lost: [] },
      { ok: false, code: 'exhausted', message: 'none left' },
    ],
  ],
  [
    staticRequestMessage as Message<never>,
    [
      { op: 'acquire', node: 'node-a', clientId: 'client-1', address: '10.99.200.7' },
      { op: 'renew', node: 'node-a', grants: [{ address: 'fd00:99::c8:7', grant: 3 }] },
      { op: 'return', node: 'node-a', grants: [] },
    ],
  ],
  [
    staticReplyMessage as Message<never>,
    [
      { ok: true, leases: [{ address: '10.99.200.7', pool: '10.99.0.0/16', grant: 3, leaseSeconds: 60 }], lost: [] },
      { ok: false, code: 'held', message: 'node-b has it' },
    ],
  ],
  [staticReleaseMessage as Message<never>, [{ address: '10.99.200.7', grant: 3 }]],
  [
    blockNoticeMessage as Message<never>,
    [
      { draining: [], closing: [] },
      { draining: ['10.98.0.0/26'], closing: ['fd00:98::/120'] },
    ],
  ],
  [credentialMessage as Message<never>, [credential, { ...credential, state: 'revoked' }]],
];
