import { FLAG, parseArguments } from '../../shared/config/parse-arguments.ts';
import { integer } from '../../shared/config/parse-config.ts';

export interface NodesOptions {
  readonly nodes: number;
  /** Of each node; a traffic window has all of them. */
  readonly connections: number;
  /** How long they are watched, once all connections are open. */
  readonly seconds: number;
  readonly json: boolean;
}

const MAX_NODES = 2_000;
const MAX_CONNECTIONS = 400;
const MIN_SECONDS = 10;
const MAX_SECONDS = 3_600;

export const NODES_HELP = `Runs many simulated nodes, without tunnels but with spools, presence, address blocks and traffic windows every 5 s, on one
control plane, and looks whether it keeps up with them. Exit code 1 when a bar is missed.

  npm run bench:nodes                           1000 nodes with 100 connections each
  npm run bench:nodes -- --nodes N              1 to ${MAX_NODES}
  npm run bench:nodes -- --connections N        of each node, 1 to ${MAX_CONNECTIONS}
  npm run bench:nodes -- --seconds N            how long they are watched, ${MIN_SECONDS} to ${MAX_SECONDS} s (60)
  npm run bench:nodes -- --json                 the result as JSON on the last line
  npm run bench:nodes -- --help                 this text

The nodes' state is in memory (/dev/shm), since one machine has not the disks of a thousand; NATS and Postgres write to disk.
`;

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what it takes. */
export function parseNodesOptions(args: readonly string[]): NodesOptions | undefined {
  const given = parseArguments(args, {
    nodes: integer(1, MAX_NODES),
    connections: integer(1, MAX_CONNECTIONS),
    seconds: integer(MIN_SECONDS, MAX_SECONDS),
    json: FLAG,
  });
  if (given === undefined) return undefined;
  const { nodes = 1_000, connections = 100, seconds = 60, json } = given.values;
  return { nodes, connections, seconds, json };
}
