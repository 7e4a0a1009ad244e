import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Pools that come and go while the cluster runs, and how full they were. Neither table is a projection. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE pool_states (
      name text PRIMARY KEY,
      version bigint NOT NULL CHECK (version > 0),
      state text NOT NULL CHECK (state IN ('active', 'retiring', 'retired')),
      prefixes cidr[] NOT NULL CHECK (cardinality(prefixes) > 0),
      block_prefix_v4 smallint NOT NULL,
      block_prefix_v6 smallint NOT NULL,
      close_tunnels boolean NOT NULL DEFAULT false,
      state_since timestamptz NOT NULL
    );

    CREATE TABLE pool_usage (
      at timestamptz NOT NULL DEFAULT now(),
      pool text NOT NULL,
      family smallint NOT NULL CHECK (family IN (4, 6)),
      state text NOT NULL,
      total double precision NOT NULL,
      granted double precision NOT NULL,
      used double precision NOT NULL,
      available double precision NOT NULL,
      exhaustion_seconds double precision,
      PRIMARY KEY (pool, family, at)
    );
    CREATE INDEX pool_usage_at ON pool_usage (at)`.execute(db);

  await commentOn(db, {
    pool_states: {
      is: 'Every pool of addresses that there is or was, as its events left it; what the next decision is made from.',
      columns: {
        name: 'What administrators call it; "default" is the one of the variable POOLS.',
        version: 'How many events the pool has had.',
        state: 'active, retiring (nodes give its blocks back as they empty), or retired (nobody holds a part of it).',
        prefixes: 'Its networks, IPv4 and IPv6.',
        block_prefix_v4: 'Length of the prefixes that its IPv4 networks are split into, while there are enough.',
        block_prefix_v6: 'Length of the prefixes that its IPv6 networks are split into, while there are enough.',
        close_tunnels: 'Whether its tunnels are ended while it retires; else they live on until they end.',
        state_since: 'Since when it is in this state.',
      },
    },
    pool_usage: {
      is: 'How full each pool was, in client addresses: a row for each family and minute, kept for 30 days.',
      columns: {
        at: 'When.',
        pool: 'The pool.',
        family: '4 or 6.',
        state: 'active or retiring.',
        total: 'All that clients could get if every block were granted.',
        granted: 'Those in blocks that nodes held.',
        used: 'Those that clients held or that rested after use.',
        available: 'total less used; 0 for a pool that retires.',
        exhaustion_seconds:
          'In how many seconds nothing will be available if use grows on as in the last hour; null where it does not grow, or too little is known.',
      },
    },
  });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`DROP TABLE pool_usage, pool_states`.execute(db);
}
