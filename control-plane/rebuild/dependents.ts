import { sql } from 'kysely';
import { PROJECTION_TABLES } from '../projections/projection-tables.ts';
import type { Database } from '../storage/database.ts';
import { ProjectionCopyError } from './projection-copy.ts';
import { LIVE_SCHEMA } from './table-definitions.ts';

/** What Postgres binds to tables themselves, not to their names. */
export interface TableDependents {
  /** Names with their schema, quoted. */
  readonly views: ReadonlyArray<{ readonly name: string; readonly options: string[]; readonly definition: string }>;
  /** Whole CREATE OR REPLACE FUNCTION statements. */
  readonly functions: readonly string[];
}

interface DependentRow {
  readonly kind: string;
  readonly name: string;
  readonly options: string[];
  readonly definition: string | null;
}

/** What of a table is made anew with it, or falls with it. */
const PARTS = ['pg_class', 'pg_type', 'pg_attrdef', 'pg_trigger', 'pg_statistic_ext'];
/** What is judged by itself: some of it can be moved. */
const OTHERS = ['pg_rewrite', 'pg_proc', 'pg_constraint'];

/**
 * Views and functions that depend on the live projection tables. Throws ProjectionCopyError for anything else that does,
 * e.g. a foreign key, a materialized view, a publication or a policy of someone's own.
 */
export async function readDependents(database: Database): Promise<TableDependents> {
  const names = PROJECTION_TABLES.map(({ name }) => name);
  const { rows } = await sql<DependentRow>`
    WITH tables AS (
      SELECT c.oid, c.reltype FROM pg_class c
      WHERE c.relnamespace = ${LIVE_SCHEMA}::regnamespace AND c.relname = ANY(${names}::text[])
    ), own AS (
      SELECT oid FROM tables
      UNION ALL SELECT inhrelid FROM pg_inherits JOIN tables ON oid = inhparent
    ), dependents AS (
      SELECT d.classid, d.objid, d.objsubid, d.refclassid = 'pg_type'::regclass AS is_typed FROM pg_depend d JOIN tables t
        ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid)
        OR (d.refclassid = 'pg_type'::regclass AND d.refobjid = t.reltype)
      WHERE d.deptype IN ('n', 'a')
    )
    SELECT DISTINCT CASE v.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'a rule of' END AS kind,
      format('%I.%I', v.relnamespace::regnamespace, v.relname) AS name, coalesce(v.reloptions, '{}') AS options,
      CASE v.relkind WHEN 'v' THEN pg_get_viewdef(v.oid) END AS definition
    FROM dependents JOIN pg_rewrite r ON classid = 'pg_rewrite'::regclass AND objid = r.oid
    JOIN pg_class v ON v.oid = r.ev_class
    UNION ALL
    SELECT DISTINCT 'function', p.oid::regprocedure::text, '{}'::text[], pg_get_functiondef(p.oid)
    FROM dependents JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
    UNION ALL
    SELECT DISTINCT 'constraint', k.conname, '{}'::text[], NULL
    FROM dependents JOIN pg_constraint k ON classid = 'pg_constraint'::regclass AND objid = k.oid
    WHERE k.contype = 'f' OR k.conrelid NOT IN (SELECT oid FROM own)
    UNION ALL
    -- What is typed as a row of a table keeps the type of the former one.
    SELECT DISTINCT 'the', pg_describe_object(classid, objid, objsubid), '{}'::text[], NULL
    FROM dependents WHERE is_typed OR classid <> ALL(${[...PARTS, ...OTHERS]}::regclass[])
    ORDER BY 1, 2`.execute(database);
  const stuck = rows.find(({ definition }) => definition === null);
  if (stuck !== undefined) {
    throw new ProjectionCopyError(
      `${stuck.kind} ${stuck.name} depends on the live tables and cannot be moved to others`,
    );
  }
  const of = (kind: string) => rows.filter((row) => row.kind === kind);
  return {
    views: of('view').map(({ name, options, definition }) => ({ name, options, definition: definition ?? '' })),
    functions: of('function').map(({ definition }) => definition ?? ''),
  };
}
