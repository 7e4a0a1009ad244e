/** What the packets that belong to no connection came to, since the start. */
export interface GateState {
  readonly retriesSent: number;
  readonly tokensRefused: { readonly expired: number; readonly another_address: number };
  readonly versionsNegotiated: number;
}

/** A QUIC server now; counts are since its start. */
export interface QuicServerState extends GateState {
  /** Handshakes in flight included. */
  readonly connections: number;
  /** Connections whose handshake is not complete. */
  readonly handshakes: number;
  /** First packets that were dropped because there are as many connections as there may be. */
  readonly connectionsRefused: number;
  readonly cores: number;
  /** Held by the cores. */
  readonly memoryBytes: number;
  readonly abortedCores: number;
}

export const NO_QUIC_STATE: QuicServerState = {
  retriesSent: 0,
  tokensRefused: { expired: 0, another_address: 0 },
  versionsNegotiated: 0,
  connections: 0,
  handshakes: 0,
  connectionsRefused: 0,
  cores: 0,
  memoryBytes: 0,
  abortedCores: 0,
};

/** Several servers taken together. */
export function sumOfQuicStates(states: readonly QuicServerState[]): QuicServerState {
  return states.reduce(
    (a, b) => ({
      retriesSent: a.retriesSent + b.retriesSent,
      tokensRefused: {
        expired: a.tokensRefused.expired + b.tokensRefused.expired,
        another_address: a.tokensRefused.another_address + b.tokensRefused.another_address,
      },
      versionsNegotiated: a.versionsNegotiated + b.versionsNegotiated,
      connections: a.connections + b.connections,
      handshakes: a.handshakes + b.handshakes,
      connectionsRefused: a.connectionsRefused + b.connectionsRefused,
      cores: a.cores + b.cores,
      memoryBytes: a.memoryBytes + b.memoryBytes,
      abortedCores: a.abortedCores + b.abortedCores,
    }),
    NO_QUIC_STATE,
  );
}
