import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import type { VpnEvent } from '../../../shared/events/envelope.ts';

export interface SpoolFile {
  readonly epoch: string;
  readonly lastSeq: number;
  /** What was not known to be committed, in order. */
  readonly events: readonly VpnEvent[];
}

/** What a node that does not run has in its spool, read from a copy: the file is as its process left it. */
export function readSpoolFile(cluster: Cluster, nodeId: string): SpoolFile {
  if (cluster.node(nodeId).service.running()) throw new Error(`${nodeId} runs: its spool is locked`);
  const state = join(cluster.directory, 'nodes', nodeId, 'state');
  const copy = mkdtempSync(join(tmpdir(), 'masque-vpn-spool-'));
  try {
    for (const name of readdirSync(state)) cpSync(join(state, name), join(copy, name));
    const db = new DatabaseSync(join(copy, 'node.sqlite'));
    try {
      const epoch = db.prepare('SELECT epoch, last_seq FROM epoch').get();
      const rows = db.prepare('SELECT event FROM spool ORDER BY seq').all();
      const events = rows.map(({ event }) => JSON.parse(String(event)) as VpnEvent);
      return { epoch: String(epoch?.epoch), lastSeq: Number(epoch?.last_seq), events };
    } finally {
      db.close();
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
