import type { CloseReason } from '../../shared/events/node-events.ts';

/** Where one tunnel stands. `requested`: the main thread decides about it. */
export type TunnelState =
  | { readonly kind: 'requested' }
  | { readonly kind: 'open'; readonly connectionId: string; readonly clientId: string; readonly openedMs: number }
  | { readonly kind: 'closed'; readonly reason: CloseReason; readonly detail: string };

export type TunnelTransition =
  | { readonly kind: 'accept'; readonly connectionId: string; readonly clientId: string; readonly nowMs: number }
  | { readonly kind: 'end'; readonly reason: CloseReason; readonly detail: string };

/** The next state; the same one when the transition does not apply: a tunnel ends once, and nothing reopens it. */
export function nextTunnelState(state: TunnelState, transition: TunnelTransition): TunnelState {
  switch (transition.kind) {
    case 'accept': {
      if (state.kind !== 'requested') return state;
      const { connectionId, clientId, nowMs } = transition;
      return { kind: 'open', connectionId, clientId, openedMs: nowMs };
    }
    case 'end':
      if (state.kind === 'closed') return state;
      return { kind: 'closed', reason: transition.reason, detail: transition.detail };
    default:
      return transition satisfies never;
  }
}
