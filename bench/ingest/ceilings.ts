import type pg from 'pg';

/** The tables that a projected record becomes rows of, and the column that says by which event; undefined: by the connection. */
const TABLES = {
  events: 'position',
  traffic: 'position',
  ip_ledger: 'position',
  connections: undefined,
  address_assignments: 'assigned_position',
  held: undefined,
} as const;
/** Positions in one transaction: what a batch of the projector has under load. */
const POSITIONS_PER_BATCH = 2_000;
const SCHEMA = 'ceiling';
const ROUNDS = 3;

/** Positions of the log, both included, and when they were committed. */
export interface Span {
  readonly first: number;
  readonly last: number;
}

/**
 * How many seconds Postgres takes for the rows that the events of a span became, into empty tables with the same indexes and
 * constraints and with nothing else to do: by COPY from files, a table a transaction, and by unnest of arrays that it has
 * already, a batch a transaction. Each the best that rows can be written; in turns, three times each.
 */
export async function measureCeilings(
  client: pg.Client,
  directory: string,
  span: Span,
): Promise<{ copySeconds: number[]; unnestSeconds: number[] }> {
  await client.query('SET statement_timeout = 0');
  const within = (column: string) => `${column} BETWEEN ${span.first} AND ${span.last}`;
  const ofNewConnections = `connection_id IN (SELECT (data->>'connectionId')::uuid FROM public.events
    WHERE ${within('position')} AND type = 'connection.established')`;
  const columns = new Map<string, string>();
  for (const [table, position] of Object.entries(TABLES)) {
    const list = await insertableColumns(client, table);
    columns.set(table, list);
    const wanted = position === undefined ? ofNewConnections : within(position);
    await client.query(`CREATE TEMP TABLE rows_${table} AS SELECT ${list} FROM public.${table} WHERE ${wanted}`);
    await client.query(`COPY rows_${table} TO '${directory}/${table}.copy'`);
    const arrays = list.split(', ').map((name) => `array_agg(${name}) AS ${name}`);
    await client.query(
      `CREATE TEMP TABLE arrays_${table} AS
       SELECT (number - 1) / ${POSITIONS_PER_BATCH} AS batch, ${arrays.join(', ')}
       FROM (SELECT *, row_number() OVER () AS number FROM rows_${table}) r GROUP BY 1`,
    );
  }
  const result = { copySeconds: [] as number[], unnestSeconds: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    await makeTables(client);
    result.copySeconds.push(
      await seconds(async () => {
        for (const [table, list] of columns) {
          await client.query(`COPY ${SCHEMA}.${table} (${list}) FROM '${directory}/${table}.copy'`);
        }
      }),
    );
    await makeTables(client);
    result.unnestSeconds.push(await seconds(() => insertArrays(client, columns)));
  }
  return result;
}

async function insertArrays(client: pg.Client, columns: ReadonlyMap<string, string>): Promise<void> {
  const { rows } = await client.query<{ batches: number }>(
    `SELECT greatest(${[...columns.keys()].map((table) => `(SELECT max(batch) FROM arrays_${table})`).join(', ')})::int AS batches`,
  );
  for (let batch = 0; batch <= (rows[0]?.batches ?? 0); batch++) {
    await client.query('BEGIN');
    for (const [table, list] of columns) {
      const arrays = list.split(', ').map((name) => `a.${name}`);
      await client.query(
        `INSERT INTO ${SCHEMA}.${table} (${list}) OVERRIDING SYSTEM VALUE
         SELECT u.* FROM arrays_${table} a, unnest(${arrays.join(', ')}) u WHERE a.batch = ${batch}`,
      );
    }
    await client.query('COMMIT');
  }
}

/** As the live ones, empty; a partitioned one is one table. */
async function makeTables(client: pg.Client): Promise<void> {
  await client.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE; CREATE SCHEMA ${SCHEMA}`);
  for (const table of Object.keys(TABLES)) {
    await client.query(`CREATE TABLE ${SCHEMA}.${table} (LIKE public.${table} INCLUDING ALL)`);
  }
  // What LIKE does not copy from a partition.
  await client.query(`ALTER TABLE ${SCHEMA}.events ADD UNIQUE (node, epoch, seq)`);
}

async function insertableColumns(client: pg.Client, table: string): Promise<string> {
  const { rows } = await client.query<{ list: string }>(
    `SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS list FROM pg_attribute
     WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`,
    [table],
  );
  return rows[0]?.list ?? '';
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1_000;
}
