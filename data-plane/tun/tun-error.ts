import { CodedError } from '../../shared/errors.ts';

export type TunErrorCode =
  /** There is no /dev/net/tun. */
  | 'TUN_MISSING'
  /** This process may not open it or make an interface. */
  | 'TUN_NOT_PERMITTED'
  /** Another process holds the interface. */
  | 'TUN_BUSY'
  /** A name or an MTU that no interface can have. */
  | 'TUN_INVALID'
  /** The device is released, or its interface was deleted. */
  | 'TUN_GONE'
  /** Anything else; `cause` is the system call's error. */
  | 'TUN_FAILED';

/** A TUN device could not be opened or used. */
export class TunError extends CodedError {
  declare readonly code: TunErrorCode;

  constructor(code: TunErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
  }
}

export function goneError(name: string): TunError {
  return new TunError('TUN_GONE', `TUN interface ${name} is released or was deleted`);
}
