import { Events, type NatsConnection } from 'nats';

export interface ConnectionListener {
  /** The connection is back after it was lost. */
  onUp?(): void;
  /** The connection is lost. */
  onDown?(): void;
}

/** Reports every loss and return of a NATS connection until the returned function is called. */
export function watchConnection(nats: NatsConnection, listener: ConnectionListener): () => void {
  // The type hides that the iterator is one of the library's queued ones, which only `stop` ends and unregisters.
  const statuses = nats.status() as ReturnType<NatsConnection['status']> & { stop(): void };
  void (async () => {
    for await (const { type } of statuses) {
      if (type === Events.Reconnect) listener.onUp?.();
      if (type === Events.Disconnect) listener.onDown?.();
    }
  })();
  return () => statuses.stop();
}
