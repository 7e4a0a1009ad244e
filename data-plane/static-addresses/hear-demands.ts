import type { NatsConnection } from 'nats';
import { canonicalAddress } from '../../shared/ip/address.ts';
import { canonicalPrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { blockNoticeMessage, blockNoticeSubject } from '../../shared/nats/messages.ts';
import { staticReleaseMessage, staticReleaseSubject } from '../../shared/nats/static-address-messages.ts';

/** What the control plane wants of the static addresses of a node. */
export interface StaticDemands {
  /** An address is wanted elsewhere, as it was granted then. */
  readonly release: (address: string, grant: number) => void;
  /** Pools retire that these blocks are of, single addresses among them; in those that are `closing` tunnels end too. */
  readonly retire: (blocks: { readonly draining: ReadonlySet<string>; readonly closing: ReadonlySet<string> }) => void;
}

/** Hears it on a connection until the function that is returned is called. Addresses and blocks are canonical. */
export function hearDemands(
  connection: NatsConnection,
  node: string,
  { release, retire }: StaticDemands,
  log: Logger,
): () => void {
  const hear = (subject: string, take: (data: Uint8Array) => void) =>
    connection.subscribe(subject, {
      callback: (error, message) => {
        if (error !== null) return;
        try {
          take(message.data);
        } catch (problem) {
          log.error({ err: problem }, 'what is wanted of static addresses is unreadable');
        }
      },
    });
  const subscriptions = [
    hear(staticReleaseSubject(node), (data) => {
      const { address, grant } = staticReleaseMessage.decode(data);
      release(canonicalAddress(address), grant);
    }),
    hear(blockNoticeSubject(node), (data) => {
      const { draining, closing } = blockNoticeMessage.decode(data);
      retire({ draining: new Set(draining.map(canonicalPrefix)), closing: new Set(closing.map(canonicalPrefix)) });
    }),
  ];
  return () => {
    for (const subscription of subscriptions) if (!subscription.isClosed()) subscription.unsubscribe();
  };
}
