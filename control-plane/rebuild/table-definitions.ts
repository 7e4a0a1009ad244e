import { sql } from 'kysely';
import { PROJECTION_TABLES } from '../projections/projection-tables.ts';
import type { Database } from '../storage/database.ts';

/** Where the live tables are. */
export const LIVE_SCHEMA = 'public';

/** An index of a table, or a constraint that is one. */
export interface IndexDefinition {
  readonly name: string;
  /** For a constraint: what follows ADD CONSTRAINT name; otherwise the whole CREATE INDEX. */
  readonly definition: string;
  readonly isConstraint: boolean;
  readonly comment: string | null;
}

/** What `CREATE TABLE ... (LIKE ...)` does not copy. */
export interface TableDefinition {
  readonly name: string;
  readonly columns: ReadonlyArray<{
    readonly name: string;
    readonly type: string;
    /** Numbers of rows (identity) and generated columns are filled by Postgres. */
    readonly filledBy: 'us' | 'identity' | 'expression';
  }>;
  /** What follows PARTITION BY; null for a plain table. */
  readonly partitionKey: string | null;
  /** Storage parameters, e.g. `fillfactor=70`. */
  readonly options: readonly string[];
  readonly owner: string;
  readonly comment: string | null;
  readonly indexes: readonly IndexDefinition[];
  /** Whole CREATE TRIGGER statements. */
  readonly triggers: readonly string[];
  readonly grants: readonly Grant[];
}

export interface Grant {
  readonly privilege: string;
  /** Null: of the whole table. */
  readonly column: string | null;
  /** A role; null: everybody. */
  readonly grantee: string | null;
  readonly grantable: boolean;
}

/** The projection tables in a schema as the catalogue of Postgres describes them now. */
export async function readDefinitions(database: Database, schema: string = LIVE_SCHEMA): Promise<TableDefinition[]> {
  const names = PROJECTION_TABLES.map(({ name }) => name);
  const { rows } = await sql<TableDefinition>`
    SELECT c.relname AS name, pg_get_userbyid(c.relowner) AS owner, coalesce(c.reloptions, '{}') AS options,
      pg_get_partkeydef(c.oid) AS "partitionKey", obj_description(c.oid, 'pg_class') AS comment,
      (SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
           'filledBy', CASE WHEN a.attidentity <> '' THEN 'identity' WHEN a.attgenerated <> '' THEN 'expression' ELSE 'us' END)
           ORDER BY a.attnum)
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
      (SELECT coalesce(json_agg(json_build_object('name', x.relname, 'isConstraint', k.oid IS NOT NULL,
           'definition', coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(x.oid)),
           'comment', coalesce(obj_description(k.oid, 'pg_constraint'), obj_description(x.oid, 'pg_class')))
           ORDER BY x.relname), '[]')
         FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
         LEFT JOIN pg_constraint k ON k.conindid = x.oid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
         WHERE i.indrelid = c.oid) AS indexes,
      (SELECT coalesce(json_agg(pg_get_triggerdef(t.oid) ORDER BY t.tgname), '[]')
         FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS triggers,
      (SELECT coalesce(json_agg(json_build_object('privilege', p.privilege_type, 'column', p.attname,
           'grantee', r.rolname, 'grantable', p.is_grantable)), '[]')
         FROM (
           SELECT NULL AS attname, (aclexplode(c.relacl)).*
           UNION ALL
           SELECT a.attname, (aclexplode(a.attacl)).* FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL
         ) p LEFT JOIN pg_roles r ON r.oid = p.grantee
         WHERE p.grantee <> c.relowner) AS grants
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ${schema} AND c.relname = ANY(${names}::text[])
    ORDER BY c.relname`.execute(database);
  return rows;
}

/** The first of the live tables that a copy lacks or has with other columns; undefined while it fits. */
export function findMisfit(live: readonly TableDefinition[], copy: readonly TableDefinition[]): string | undefined {
  const shape = (definition: TableDefinition | undefined) =>
    JSON.stringify(definition && [definition.partitionKey, definition.columns.toSorted(byName)]);
  return live.find(({ name, ...rest }) => {
    const other = copy.find((definition) => definition.name === name);
    return shape({ name, ...rest }) !== shape(other);
  })?.name;
}

const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1);
