import { FLAG, parseArguments } from '../../shared/config/parse-arguments.ts';
import { integer } from '../../shared/config/parse-config.ts';

export interface IngestOptions {
  /** Records that the nodes accept in a second. */
  readonly rate: number;
  readonly seconds: number;
  /** Of each node, 50 connections each; each writes a window a second. */
  readonly shards: number;
  /** Events in the log, in thousands, on which a control plane is started; 0: none is. */
  readonly log: number;
  readonly json: boolean;
}

/** About what two cores can do, far more than has to be committed: the share of the ceiling asks for it. */
const DEFAULT_RATE = 34_500;
const MIN_RATE = 1_000;
const MAX_RATE = 100_000;
const MIN_SECONDS = 5;
const MAX_SECONDS = 3_600;
const DEFAULT_SHARDS = 4;
const MAX_SHARDS = 64;
const DEFAULT_LOG_THOUSANDS = 10_000;
const MAX_LOG_THOUSANDS = 100_000;

export const INGEST_HELP = `Drives simulated nodes, each with a spool (in memory, where /dev/shm is), at a given rate into NATS, the projector and Postgres, and measures what is
committed, how long that takes, and what Postgres alone could take. A connection event is one record, a traffic window 50; four of
five records are samples. Exit code 1 when a bar is missed.

  npm run bench:ingest                          ${DEFAULT_RATE} records a second for 60 s
  npm run bench:ingest -- --rate N              records a second, ${MIN_RATE} to ${MAX_RATE}
  npm run bench:ingest -- --seconds N           how long, ${MIN_SECONDS} to ${MAX_SECONDS} s (60)
  npm run bench:ingest -- --shards N            shards of a node with 50 connections each, 1 to ${MAX_SHARDS} (${DEFAULT_SHARDS}): the more, the fewer nodes
  npm run bench:ingest -- --log N               thousands of events on which a control plane is started, up to ${MAX_LOG_THOUSANDS} (${DEFAULT_LOG_THOUSANDS}); 0: none.
                                                With fewer than by default that bar is not measured
  npm run bench:ingest -- --json                the result as JSON on the last line
  npm run bench:ingest -- --help                this text
`;

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what it takes. */
export function parseIngestOptions(args: readonly string[]): IngestOptions | undefined {
  const given = parseArguments(args, {
    rate: integer(MIN_RATE, MAX_RATE),
    seconds: integer(MIN_SECONDS, MAX_SECONDS),
    shards: integer(1, MAX_SHARDS),
    log: integer(0, MAX_LOG_THOUSANDS),
    json: FLAG,
  });
  if (given === undefined) return undefined;
  const {
    rate = DEFAULT_RATE,
    seconds = 60,
    shards = DEFAULT_SHARDS,
    log = DEFAULT_LOG_THOUSANDS,
    json,
  } = given.values;
  return { rate, seconds, shards, log, json };
}
