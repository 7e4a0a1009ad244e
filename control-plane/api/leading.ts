import { NotLeaderError, type Term } from '../storage/term.ts';

/** The term to decide in. Throws NotLeaderError where this process does not lead. */
export function leading(term: Term | undefined): Term {
  if (!term) throw new NotLeaderError(0, 0);
  return term;
}
