/**
 * The tables of a node's state, one script a version; `PRAGMA user_version` says how many were run. Scripts are only
 * ever added.
 */
export const SCHEMA_VERSIONS: readonly string[] = [
  `
  -- One row: the identity of this spool. last_seq is the last sequence given, applied_seq what Postgres has committed.
  CREATE TABLE epoch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    applied_seq INTEGER NOT NULL
  ) STRICT;

  -- Events that are accepted and not known to be committed. event is the whole envelope as JSON.
  CREATE TABLE spool (
    seq INTEGER PRIMARY KEY,
    incarnation TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    event TEXT NOT NULL
  ) STRICT;

  -- Address blocks held. lease_end_ms is on CLOCK_MONOTONIC of the boot boot_id.
  CREATE TABLE blocks (
    block TEXT PRIMARY KEY,
    pool TEXT NOT NULL,
    lease_ms INTEGER NOT NULL,
    lease_end_ms REAL NOT NULL,
    boot_id TEXT NOT NULL
  ) STRICT;

  -- The last assignment of every address. Times are wall-clock milliseconds; released_at is null while it is assigned.
  CREATE TABLE assignments (
    address TEXT PRIMARY KEY,
    client_id TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    assigned_at REAL NOT NULL,
    released_at REAL
  ) STRICT;

  -- The copy of the credentials bucket.
  CREATE TABLE credentials (
    client_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    token_sha256 TEXT NOT NULL,
    updated_at TEXT NOT NULL
  ) STRICT;
  `,
  `
  -- The shard whose clients get the block's addresses.
  ALTER TABLE blocks ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;
  `,
  `
  -- The pool as administrators call it: that of the block, and that of the client. pool is the network of the block's pool.
  ALTER TABLE blocks ADD COLUMN pool_name TEXT NOT NULL DEFAULT 'default';
  ALTER TABLE credentials ADD COLUMN pool_name TEXT NOT NULL DEFAULT 'default';
  `,
  `
  -- The addresses that are the client's own: a JSON array of texts.
  ALTER TABLE credentials ADD COLUMN addresses TEXT NOT NULL DEFAULT '[]';
  `,
  `
  -- The last process of which it is certain that this file has all that was published from it, an older copy of the file has less. Null where a
  -- version before this one made it.
  ALTER TABLE epoch ADD COLUMN confirmed TEXT;
  `,
];
