import Type, { type TProperties, type TSchema } from 'typebox';

/** Lower-case letters, digits and hyphens: safe as a NATS subject token, a KV key and a Prometheus label. */
export const NodeId = Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' });
/**
 * As a node id, with dots and underscores allowed inside; two dots in a row are no KV key. Underscore first is reserved for
 * the metrics' `_other`.
 */
export const ClientId = Type.String({
  pattern: '^(?!.*[.]{2})[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$',
  description: '1 to 63 of a-z, 0-9, ".", "_" and "-", with a letter or digit at both ends and no two dots in a row',
});
/** 128 random bits, hexadecimal: epochs and incarnations. */
export const RandomId = Type.String({ pattern: '^[0-9a-f]{32}$' });
/** A pool of addresses, as administrators call it. */
export const PoolName = Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' });
export const ConnectionId = Type.String({
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
  description: 'the id of a connection, a UUID in lower case',
});
/** UTC, milliseconds, as Date#toISOString writes it. */
export const Timestamp = Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' });
/** An IPv4 or IPv6 address as text; canonical form is the sender's duty, meaning is checked where it is used. */
export const AddressText = Type.String({ pattern: '^[0-9a-fA-F:.]{2,45}$' });
export const PrefixText = Type.String({ pattern: '^[0-9a-fA-F:.]{2,45}/\\d{1,3}$' });
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const PositiveInteger = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
export const Milliseconds = Type.Number({ minimum: 0, maximum: 1e12 });
export const ShortText = Type.String({ maxLength: 1000 });

/** An object of exactly these properties. */
export const record = <P extends TProperties>(properties: P) =>
  Type.Object(properties, { additionalProperties: false });
export const nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);
