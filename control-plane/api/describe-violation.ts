import type { FastifyError } from 'fastify';
import { cut, describeValue } from '../../shared/describe-value.ts';

interface Schema {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
}

/** What ajv found; with its option `verbose` it has the value, and the schema that it did not fit. */
export type Violation = NonNullable<FastifyError['validation']>[number] & {
  readonly data?: unknown;
  readonly parentSchema?: Schema;
};

/** The parts of a request by their names in fastify. */
const PARTS: Readonly<Record<string, string>> = { querystring: 'query', params: 'path' };

/**
 * What a request has that its schema does not allow: the field, where it is not the whole, the value and what is allowed. Of unknown fields the value is
 * not shown: it may be a secret.
 */
export function describeViolation(
  context: string,
  { instancePath, keyword, params, message, data, parentSchema = {} }: Violation,
): { readonly field: string | undefined; readonly detail: string } {
  const where = PARTS[context] ?? context;
  const path = instancePath.split('/').slice(1);
  const found = (field: readonly string[], got: string, expected: string) => {
    const what = [where, ...(field.length === 0 ? [] : [field.join('.')])].join(' ');
    return { field: field.join('.') || undefined, detail: `${what}: got ${got}, expected ${expected}` };
  };
  switch (keyword) {
    case 'additionalProperties': {
      const unknown = cut(String(params.additionalProperty));
      return found([...path, unknown], 'an unknown field', fieldsOf(parentSchema));
    }
    case 'required': {
      const missing = String(params.missingProperty);
      const expected = parentSchema.properties?.[missing]?.description ?? 'a value';
      return found([...path, missing], 'nothing', expected);
    }
    case 'enum':
      return found(path, describeValue(data), `one of ${(params.allowedValues as readonly string[]).join(', ')}`);
    default: {
      if (path.length === 0) return found(path, describeWhole(data), `a JSON object of ${fieldsOf(parentSchema)}`);
      const got = describeValue(data);
      return found(path, got, parentSchema.description ?? message?.replace(/^must be /, '') ?? 'something else');
    }
  }
}

function fieldsOf({ properties = {} }: Schema): string {
  return Object.keys(properties).join(', ') || 'none';
}

/** A whole body is nothing that anybody meant to show. */
function describeWhole(data: unknown): string {
  if (typeof data === 'string') return 'a text';
  // Fastify makes null of a body that is not there.
  return describeValue(data ?? undefined);
}
