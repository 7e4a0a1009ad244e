import type { TSchema } from 'typebox';
import type { Validator } from 'typebox/compile';
import { Errors, Pointer } from 'typebox/value';
import { cut } from './describe-value.ts';

const UNKNOWN_FIELD = '/additionalProperties';
const VARIANT = /\/anyOf\/\d+$/;

/** What is looked at in a schema, whatever its kind. */
interface Schema extends TSchema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly anyOf?: readonly Schema[];
  readonly const?: unknown;
}

/**
 * The first thing about a value that its schema does not allow: the path to the field, and what is wrong with it. Of a union whose variants have a
 * field that tells them apart, e.g. `op` of a request, it is what the variant that was meant does not allow.
 */
export function schemaProblem(validator: Pick<Validator, 'Type'>, value: unknown): string {
  const whole = validator.Type() as Schema;
  const tag = tagOf(whole.anyOf);
  if (tag === undefined || typeof value !== 'object' || value === null) return firstProblem(whole, value);
  const variants = whole.anyOf ?? [];
  const meant = variants.find(({ properties }) => properties?.[tag]?.const === Reflect.get(value, tag));
  if (meant !== undefined) return firstProblem(meant, value);
  return `/${tag} ${oneOf(variants.map(({ properties }) => properties?.[tag]))}`;
}

function firstProblem(schema: Schema, value: unknown): string {
  const [problem] = Errors(schema, value);
  if (problem === undefined) return 'does not match its schema';
  const { keyword, schemaPath, instancePath, message } = problem;
  const field = instancePath === '' ? '(root)' : cut(instancePath);
  const schemaAt = (path: string) => Pointer.Get(schema, path.slice('#'.length)) as Schema;
  if (keyword === 'boolean' && schemaPath.endsWith(UNKNOWN_FIELD)) {
    const { properties = {} } = schemaAt(schemaPath.slice(0, -UNKNOWN_FIELD.length));
    return `${field} is an unknown field, known are ${Object.keys(properties).join(', ')}`;
  }
  if (keyword === 'const' && VARIANT.test(schemaPath)) {
    const { anyOf = [] } = schemaAt(schemaPath.replace(VARIANT, ''));
    if (anyOf.every((variant) => variant.const !== undefined)) return `${field} ${oneOf(anyOf)}`;
  }
  return `${field} ${message}`;
}

/** The field that has a constant of its own in each of these, if there is one. */
function tagOf(variants: readonly Schema[] = []): string | undefined {
  const [first, ...others] = variants;
  const isTag = (name: string) => variants.every(({ properties }) => properties?.[name]?.const !== undefined);
  return others.length === 0 ? undefined : Object.keys(first?.properties ?? {}).find(isTag);
}

function oneOf(constants: readonly (Schema | undefined)[]): string {
  return `must be one of ${constants.flatMap((schema) => schema?.const ?? []).join(', ')}`;
}
