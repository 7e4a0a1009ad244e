import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** What the control plane decides from, beside the log: aggregates, credentials, presence, and who has metric series. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE aggregate_events (
      aggregate text NOT NULL,
      version bigint NOT NULL CHECK (version > 0),
      seq bigint NOT NULL,
      PRIMARY KEY (aggregate, version)
    );

    CREATE TABLE block_states (
      block cidr PRIMARY KEY,
      pool cidr NOT NULL CHECK (block <<= pool),
      version bigint NOT NULL CHECK (version > 0),
      node text,
      lease_end timestamptz CHECK ((lease_end IS NULL) = (node IS NULL)),
      previous_node text,
      freed_at timestamptz CHECK ((freed_at IS NULL) = (previous_node IS NULL)),
      CHECK ((node IS NULL) <> (previous_node IS NULL))
    );
    CREATE INDEX block_states_lease_end ON block_states (lease_end) WHERE node IS NOT NULL;

    CREATE TABLE block_requests (
      request_id text PRIMARY KEY,
      node text NOT NULL,
      block cidr NOT NULL,
      granted_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX block_requests_granted_at ON block_requests (granted_at);

    CREATE TABLE client_credentials (
      client_id text PRIMARY KEY,
      version bigint NOT NULL CHECK (version > 0),
      state text NOT NULL CHECK (state IN ('active', 'revoked')),
      token_sha256 text NOT NULL UNIQUE CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
      updated_at timestamptz NOT NULL
    );

    CREATE TABLE node_presence (
      node text PRIMARY KEY,
      epoch text NOT NULL,
      incarnation text NOT NULL,
      last_seen_at timestamptz NOT NULL
    );

    CREATE TABLE client_series (
      client_id text PRIMARY KEY,
      shown boolean NOT NULL,
      since timestamptz NOT NULL DEFAULT now()
    )`.execute(db);

  await commentOn(db, {
    aggregate_events: {
      is: 'Versions of what is decided here (blocks, clients): two deciders can never both take the same next one.',
      columns: {
        aggregate: 'block/<prefix> or client/<id>.',
        version: 'Number of the event in its aggregate, from 1.',
        seq: 'The event: its seq among the events of node "control".',
      },
    },
    block_states: {
      is: 'Every block that was ever granted, as its events left it; what the next decision is made from.',
      columns: {
        block: 'The block.',
        pool: 'The pool that it is a part of.',
        version: 'How many events the block has had.',
        node: 'Who holds it; null while it is free.',
        lease_end: 'When the lease ends unless it is renewed; it is taken back two minutes later.',
        previous_node: 'Who held it last; null while it is granted.',
        freed_at: 'When it became free; null while it is granted.',
      },
    },
    block_requests: {
      is: 'Answered requests for a block, so that a repeated request gets the same block. Kept for a day.',
      columns: {
        request_id: 'Chosen by the node, 128 random bits, hexadecimal.',
        node: 'Who asked.',
        block: 'What it was granted.',
        granted_at: 'When.',
      },
    },
    client_credentials: {
      is: 'What nodes authenticate clients by. The tokens themselves are stored nowhere.',
      columns: {
        client_id: 'The client.',
        version: "Version of the client's aggregate that made this state; nodes never go back to a lower one.",
        state: 'active or revoked.',
        token_sha256: 'SHA-256 of the bearer token, hexadecimal.',
        updated_at: 'When this state was decided.',
      },
    },
    node_presence: {
      is: 'When each node was last heard by the leader. No projection: presence is not in the log.',
      columns: {
        node: 'The node.',
        epoch: 'The spool it uses.',
        incarnation: 'The process that was heard.',
        last_seen_at: "When, by Postgres' clock; written every few seconds.",
      },
    },
    client_series: {
      is: 'Which clients have metric series of their own. Those without a row are new and not counted in any series yet.',
      columns: {
        client_id: 'The client.',
        shown:
          'True: total minus folded is shown under its id, the folded part in "_other". False: all of it in "_other".',
        since: 'When that was decided.',
      },
    },
  });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`DROP TABLE client_series, node_presence, client_credentials, block_requests, block_states, aggregate_events`.execute(
    db,
  );
}
