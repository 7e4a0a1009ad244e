import type { FieldLine } from '../http3/qpack/field-line.ts';

/** The field that says that a stream's content are capsules (RFC 9297 3.4). */
export const CAPSULE_PROTOCOL_FIELD: FieldLine = ['capsule-protocol', '?1'];

/** Fields about content, which a message that uses capsules must not have (RFC 9297 3.2). */
const CONTENT_FIELDS: ReadonlySet<string> = new Set(['content-length', 'content-type', 'transfer-encoding']);

/** Whether the field is there as boolean true, with any parameters; everything else counts as absent. */
export function hasCapsuleProtocol(fields: readonly FieldLine[]): boolean {
  const values = fields.filter(([name]) => name === 'capsule-protocol').map(([, value]) => value);
  return values.length === 1 && /^ *\?1 *(;.*)?$/.test(values[0]!);
}

/** The name of a content field that must not be there, or undefined. */
export function findContentField(fields: readonly FieldLine[]): string | undefined {
  return fields.find(([name]) => CONTENT_FIELDS.has(name))?.[0];
}
