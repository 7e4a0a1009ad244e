import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Addresses that belong to one client, wherever it connects. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE static_addresses (
      address inet PRIMARY KEY CHECK (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END),
      client_id text NOT NULL,
      pool cidr NOT NULL CHECK (address <<= pool),
      since timestamptz NOT NULL
    );
    CREATE UNIQUE INDEX static_addresses_client ON static_addresses (client_id, family(address));
    ALTER TABLE block_states ADD COLUMN client_id text;
    ALTER TABLE clients ADD COLUMN addresses inet[] NOT NULL DEFAULT '{}'`.execute(db);

  await commentOn(db, {
    static_addresses: {
      is: 'Addresses that belong to one client: given to nobody else, and to it at whatever node it connects to. No projection.',
      columns: {
        address: 'The address. No block that it lies in is granted to a node, but for the address by itself.',
        client_id: 'Whose it is: one of each family at most.',
        pool: 'The pool that it is a part of.',
        since: 'Since when.',
      },
    },
  });
  await sql`
    COMMENT ON COLUMN block_states.client_id IS
      'Of a block of one static address: the client that it was granted for last; null for all other blocks.';
    COMMENT ON COLUMN clients.addresses IS
      'Static addresses of the client; empty where it gets whichever is free.'`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE clients DROP COLUMN addresses;
    ALTER TABLE block_states DROP COLUMN client_id;
    DROP TABLE static_addresses`.execute(db);
}
