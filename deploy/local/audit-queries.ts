/** A question of an auditor, and the SQL that answers it. */
export interface AuditQuery {
  readonly question: string;
  readonly sql: string;
}

/** Ours: failures are asked about from so long before the moment to so long after it. */
const AROUND_MS = 3_600_000;

/**
 * A ready-made query for everything that auditors can read; the first asks about an address that a client of this cluster has
 * or had, some about the moment.
 */
export function auditQueries(address: string, at: Date): readonly AuditQuery[] {
  const moment = at.toISOString();
  const around = [-AROUND_MS, AROUND_MS].map((offset) => `'${new Date(at.getTime() + offset).toISOString()}'`);
  return [
    {
      question: `Who held ${address} at ${moment}, on which node, until why?`,
      sql:
        'SELECT client_id, node, held_from, held_until, end_reason, block\n' +
        `  FROM address_holders('${address}', '${moment}')`,
    },
    {
      question: 'Which connections were there last, from where, with which addresses, and why did they end?',
      sql:
        'SELECT client_id, node, remote_address, established_at, round(duration_seconds::numeric, 1) AS seconds, reason,\n' +
        '       addresses::text, bytes_sent, bytes_received\n' +
        '  FROM connection_history ORDER BY established_at DESC NULLS LAST LIMIT 10',
    },
    {
      question: 'How much did each client move, by day and node?',
      sql:
        'SELECT day::text, client_id, node, connections, bytes_sent, bytes_received, packets_sent, packets_received\n' +
        '  FROM usage_daily ORDER BY day DESC, client_id, node LIMIT 20',
    },
    {
      question: 'Which sessions were open at that moment?',
      sql:
        'SELECT client_id, node, remote_address, transport, established_at, addresses::text\n' +
        `  FROM sessions_at('${moment}') ORDER BY established_at`,
    },
    {
      question: 'How many were that on each node?',
      sql: `SELECT node, sessions, clients, presumed FROM session_counts_at('${moment}')`,
    },
    {
      question: 'Which addresses are held that should not be, and why?',
      sql:
        "SELECT address, client_id, node, held_from, 'its connection ended at ' || closed_at AS why FROM leaked_addresses WHERE held\n" +
        'UNION ALL SELECT address, client_id, node, held_from, why FROM orphaned_addresses',
    },
    {
      question: 'Which addresses were given out twice at a time, to whom?',
      sql:
        'SELECT address, at, client_id, node, holder_client_id, holder_node, holder_from, holder_until\n' +
        '  FROM conflicting_claims ORDER BY at',
    },
    {
      question: 'Which addresses did a client have, one after the other?',
      sql:
        'SELECT address, node, held_from, held_until, end_reason\n' +
        "  FROM address_history WHERE client_id = 'client-1' ORDER BY held_from, address",
    },
    {
      question: 'From where did clients fail to authenticate, and how often?',
      sql:
        'SELECT remote_address, failures, reports, first_at, last_at, nodes::text, reasons::text\n' +
        `  FROM failed_authentications_by_address(${around.join(', ')})`,
    },
    {
      question: 'Who was refused last?',
      sql:
        'SELECT at, remote_address, node, client_id, status, reason, failures\n' +
        '  FROM failed_authentications ORDER BY position DESC LIMIT 3',
    },
    {
      question: 'Who changed which client or pool?',
      sql:
        'SELECT at, actor, type, subject_kind, subject_id, change::text\n' +
        '  FROM admin_changes ORDER BY position DESC LIMIT 5',
    },
    {
      question: 'Is any event missing?',
      sql:
        'SELECT node, left(epoch, 8) AS epoch, first_seq, last_seq, in_log, lost, dead_letters, parked, unexplained, verdict\n' +
        '  FROM completeness ORDER BY node',
    },
    {
      question: 'Does the log itself prove that?',
      sql:
        'SELECT c.node, p.from_seq, p.to_seq, p.events, p.found\n' +
        '  FROM completeness c, epoch_proof(c.node, c.epoch) p ORDER BY c.node, p.from_seq',
    },
  ];
}
