import type { TSchema } from 'typebox';
import type { Validator } from 'typebox/compile';
import { Pointer } from 'typebox/value';
import { cut } from './describe-value.ts';

const UNKNOWN_FIELD = '/additionalProperties';

/** The first thing about a value that its schema does not allow: the path to the field, and what is wrong with it. */
export function schemaProblem(validator: Pick<Validator, 'Errors' | 'Type'>, value: unknown): string {
  const [problem] = validator.Errors(value);
  if (problem === undefined) return 'does not match its schema';
  const { keyword, schemaPath, instancePath, message } = problem;
  const field = instancePath === '' ? '(root)' : cut(instancePath);
  if (keyword !== 'boolean' || !schemaPath.endsWith(UNKNOWN_FIELD)) return `${field} ${message}`;
  const parent = Pointer.Get(validator.Type(), schemaPath.slice('#'.length, -UNKNOWN_FIELD.length)) as TSchema & {
    readonly properties: object;
  };
  return `${field} is an unknown field, known are ${Object.keys(parent.properties).join(', ')}`;
}
