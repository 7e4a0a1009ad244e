/** A question of an auditor, and the SQL that answers it. */
export interface AuditQuery {
  readonly question: string;
  readonly sql: string;
}

/** Three ready-made queries; the first asks about an address that a client of this cluster has or had. */
export function auditQueries(address: string, at: Date): readonly AuditQuery[] {
  return [
    {
      question: `Who held ${address} at ${at.toISOString()}, on which node, until why?`,
      sql:
        'SELECT client_id, node, held_from, held_until, end_reason, block\n' +
        `  FROM address_holders('${address}', '${at.toISOString()}')`,
    },
    {
      question: 'Which connections were there last, with which addresses, and why did they end?',
      sql:
        'SELECT client_id, node, state, established_at, round(duration_seconds::numeric, 1) AS seconds, reason,\n' +
        '       addresses::text, bytes_sent, bytes_received\n' +
        '  FROM connection_history ORDER BY established_at DESC NULLS LAST LIMIT 10',
    },
    {
      question: 'How much did each client move, by day and node?',
      sql:
        'SELECT day::text, client_id, node, connections, bytes_sent, bytes_received, packets_sent, packets_received\n' +
        '  FROM usage_daily ORDER BY day DESC, client_id, node LIMIT 20',
    },
  ];
}
