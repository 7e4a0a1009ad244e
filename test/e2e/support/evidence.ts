import type { Cluster } from '../../../deploy/local/cluster.ts';
import { textTable } from '../../../deploy/local/text-table.ts';

const LOG_LINES = 15;
const QUERIES = [
  'SELECT node, state, started_at, lost_at, last_event_at FROM nodes ORDER BY node',
  `SELECT client_id, node, state, reason, detail, established_at, presumed_at, closed_at FROM connections
    ORDER BY established_at DESC NULLS LAST LIMIT 20`,
  'SELECT node, epoch, applied_seq, current, last_at FROM node_epochs ORDER BY node',
  'SELECT node, epoch, from_seq, to_seq FROM event_gaps LIMIT 10',
  'SELECT node, seq, type, error_code, error FROM dead_letter LIMIT 10',
] as const;

/** Runs a check; when it fails, the error says what the processes and the tables said last. */
export async function withEvidence<T>(cluster: Cluster, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${message}\n\n${await collect(cluster)}`, { cause: error });
  }
}

async function collect(cluster: Cluster): Promise<string> {
  const services = [
    cluster.controlPlane,
    ...cluster.nodes.map(({ service }) => service),
    ...cluster.clients.map(({ service }) => service),
  ];
  const logs = services.map((service) => {
    try {
      return `--- ${service.name}${service.running() ? '' : ' (not running)'}\n${service.process().lastLogLines(LOG_LINES)}`;
    } catch (error) {
      return `--- ${service.name}: ${error}`;
    }
  });
  const tables = await Promise.all(
    QUERIES.map(async (query) => {
      const rows = await cluster.sql(query).catch((error: unknown) => [{ error: String(error) }]);
      return `--- ${query}\n${textTable(rows)}`;
    }),
  );
  return [...logs, ...tables].join('\n');
}
