import type { Term } from '../storage/term.ts';

/** Something that only the leader does, from takeover until the term's signal aborts. Throwing restarts it. */
export interface LeaderService {
  readonly name: string;
  run(term: Term): Promise<void>;
}
