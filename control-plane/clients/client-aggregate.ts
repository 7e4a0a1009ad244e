import { CodedError } from '../../shared/errors.ts';
import type { NewEvent } from '../../shared/events/envelope.ts';

export type ClientState =
  | { readonly status: 'unknown' }
  | { readonly status: 'active' }
  | { readonly status: 'revoked' };

/** The state after `version` events; version 0 is a client that was never enrolled. */
export interface ClientAggregate {
  readonly clientId: string;
  readonly version: number;
  /** Where it gets its addresses from. */
  readonly pool: string;
  /** Those that are its own, in canonical text. */
  readonly addresses: readonly string[];
  readonly state: ClientState;
}

export type ClientEvent = NewEvent<'client.enrolled' | 'client.updated' | 'client.addresses_set' | 'client.revoked'>;

interface CommandBase {
  readonly now: number;
  /** Who asks, for the event. */
  readonly actor: string;
}

export type ClientCommand =
  | (CommandBase & { readonly type: 'enrol'; readonly name: string; readonly pool: string })
  | (CommandBase & { readonly type: 'update'; readonly name: string; readonly pool: string })
  /** The addresses are checked: canonical, one of each family at most, and free for this client. */
  | (CommandBase & { readonly type: 'setAddresses'; readonly addresses: readonly string[] })
  | (CommandBase & { readonly type: 'revoke' });

/** What cannot be done with a client in its state. `code` is one of CLIENT_EXISTS, CLIENT_UNKNOWN, CLIENT_REVOKED. */
export class ClientCommandError extends CodedError {
  constructor(code: 'CLIENT_EXISTS' | 'CLIENT_UNKNOWN' | 'CLIENT_REVOKED', clientId: string) {
    const why = {
      CLIENT_EXISTS: 'is enrolled already',
      CLIENT_UNKNOWN: 'is not enrolled',
      CLIENT_REVOKED: 'is revoked',
    };
    super(code, `client "${clientId}" ${why[code]}`);
  }
}

/**
 * Which event a command leads to; undefined where nothing is left to do. A revoked client can be enrolled again, with a
 * new token. Pure: time comes with the command. Throws ClientCommandError.
 */
export function decideClient(client: ClientAggregate, command: ClientCommand): ClientEvent | undefined {
  const { clientId, state } = client;
  const { actor } = command;
  const at = new Date(command.now).toISOString();
  switch (command.type) {
    case 'enrol':
      if (state.status === 'active') throw new ClientCommandError('CLIENT_EXISTS', clientId);
      return { type: 'client.enrolled', at, data: { clientId, name: command.name, pool: command.pool, actor } };
    case 'update':
      refuseInactive(client);
      return { type: 'client.updated', at, data: { clientId, name: command.name, pool: command.pool, actor } };
    case 'setAddresses': {
      refuseInactive(client);
      const addresses = [...command.addresses].sort();
      if (addresses.join() === [...client.addresses].sort().join()) return undefined;
      return { type: 'client.addresses_set', at, data: { clientId, addresses, actor } };
    }
    case 'revoke':
      if (state.status === 'unknown') throw new ClientCommandError('CLIENT_UNKNOWN', clientId);
      if (state.status === 'revoked') return undefined;
      return { type: 'client.revoked', at, data: { clientId, actor } };
    default:
      return command satisfies never;
  }
}

/** Throws ClientCommandError. */
export function refuseInactive({ clientId, state }: Pick<ClientAggregate, 'clientId' | 'state'>): void {
  if (state.status === 'unknown') throw new ClientCommandError('CLIENT_UNKNOWN', clientId);
  if (state.status === 'revoked') throw new ClientCommandError('CLIENT_REVOKED', clientId);
}

/** The aggregate after one more event. */
export function evolveClient(client: ClientAggregate, event: ClientEvent): ClientAggregate {
  const next = { ...client, version: client.version + 1 };
  switch (event.type) {
    case 'client.enrolled':
    case 'client.updated':
      return { ...next, pool: event.data.pool, state: { status: 'active' } };
    case 'client.addresses_set':
      return { ...next, addresses: event.data.addresses };
    case 'client.revoked':
      // Whoever gets them next must not wait for a client that never comes again.
      return { ...next, addresses: [], state: { status: 'revoked' } };
    default:
      return event satisfies never;
  }
}
