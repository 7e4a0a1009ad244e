import { CodedError } from '../../shared/errors.ts';

/** One term of leadership: every write of it names `ownerEpoch`, and `signal` aborts when it ends. */
export interface Term {
  readonly ownerEpoch: number;
  readonly signal: AbortSignal;
}

/** A write was refused because another term has begun. */
export class NotLeaderError extends CodedError {
  constructor(ownerEpoch: number, current: number) {
    super('NOT_LEADER', `term ${ownerEpoch} is over, term ${current} has begun`);
  }
}
