import { setTimeout as delay } from 'node:timers/promises';
import { KEEPALIVE_INTERVAL_MS } from '../../data-plane/client/client-tunnel.ts';
import { answerPing } from './answer-ping.ts';
import { type PeerTarget, RefusedError, TestPeer } from './test-peer.ts';

/*
 * Many tunnels in one process, for tests and benchmarks of many clients: opens one for each token, keeps them alive as our client
 * does, answers pings as a host would, and ends all cleanly. Talks to its parent (tunnel-load-process.ts) by messages.
 */

export type LoadCommand =
  /** Makes peers for as many tunnels to come: a core of QUIC takes longer than the handshake, and nodes have no part in it. */
  | { readonly type: 'prepare'; readonly target: PeerTarget; readonly count: number }
  | {
      readonly type: 'open';
      readonly target: PeerTarget;
      readonly tokens: readonly string[];
      /** Between two looks at the socket of an open tunnel; default as while it opens. */
      readonly idleTurnMs?: number;
    }
  /** Every tunnel pings that address. */
  | { readonly type: 'ping'; readonly address: string }
  /** How many tunnels the node has not ended. */
  | { readonly type: 'count' }
  | { readonly type: 'close' };

export type LoadReport =
  | { readonly type: 'prepared' }
  | {
      readonly type: 'opened';
      readonly addresses: readonly (readonly string[])[];
      readonly refusals: number;
      readonly ms: number;
    }
  | { readonly type: 'pinged'; readonly answered: number; readonly ms: number }
  | { readonly type: 'counted'; readonly open: number }
  | { readonly type: 'closed' };

/** Connection attempts at once: a handshake costs each end about 8 ms of a core. */
const AT_ONCE = 8;
const RETRY_MS = 250;
const ATTEMPTS = 20;

const prepared: TestPeer[] = [];
const peers: TestPeer[] = [];

process.on('message', (command: LoadCommand) => {
  void run(command).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});
// Without its parent there is nothing to do.
process.on('disconnect', () => process.exit(0));

async function run(command: LoadCommand): Promise<void> {
  const start = performance.now();
  const since = () => Math.round(performance.now() - start);
  switch (command.type) {
    case 'prepare':
      for (let i = 0; i < command.count; i++) prepared.push(TestPeer.prepare(command.target));
      report({ type: 'prepared' });
      return;
    case 'open': {
      const refusals = await openAll(command.target, command.tokens, command.idleTurnMs);
      report({ type: 'opened', addresses: peers.map(({ addresses }) => addresses), refusals, ms: since() });
      return;
    }
    case 'ping': {
      const outcomes = await Promise.allSettled(peers.map((peer) => peer.ping(command.address)));
      const answered = outcomes.filter(({ status }) => status === 'fulfilled').length;
      report({ type: 'pinged', answered, ms: since() });
      return;
    }
    case 'count':
      report({ type: 'counted', open: peers.filter((peer) => peer.closed === undefined && !peer.ended).length });
      return;
    case 'close':
      for (const peer of peers) peer.close();
      report({ type: 'closed' });
      return;
    default:
      command satisfies never;
  }
}

async function openAll(target: PeerTarget, tokens: readonly string[], idleTurnMs: number | undefined): Promise<number> {
  const waiting = [...tokens];
  let refusals = 0;
  const worker = async () => {
    for (let token = waiting.pop(); token !== undefined; token = waiting.pop()) {
      for (let attempt = 1; ; attempt++) {
        try {
          const peer = prepared.pop() ?? TestPeer.prepare(target);
          await peer.open(token);
          peer.onPacket = (packet) => answerPing(peer, packet);
          if (idleTurnMs !== undefined) peer.pace(idleTurnMs);
          setInterval(() => peer.keepAlive(), KEEPALIVE_INTERVAL_MS).unref();
          peers.push(peer);
          break;
        } catch (error) {
          // A node whose address blocks are spent asks for more, and answers 503 until it has them.
          if (!(error instanceof RefusedError) || error.status !== 503 || attempt === ATTEMPTS) throw error;
          refusals++;
          await delay(RETRY_MS);
        }
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return refusals;
}

function report(message: LoadReport): void {
  process.send?.(message);
}
