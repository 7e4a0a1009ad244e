import type { TSchema } from 'typebox';
import { controlEventSchemas } from '../../shared/events/control-events.ts';
import { type EventEnvelope, InvalidEventError, type VpnEvent, validateEvent } from '../../shared/events/envelope.ts';
import { AddressText, PrefixText, Timestamp } from '../../shared/events/event-schema.ts';
import { nodeEventSchemas } from '../../shared/events/node-events.ts';
import { canonicalAddress } from '../../shared/ip/address.ts';
import { canonicalPrefix } from '../../shared/ip/prefix.ts';

type Canonical = (text: string) => string;

const CANONICAL: ReadonlyMap<TSchema, Canonical> = new Map<TSchema, Canonical>([
  [AddressText, canonicalAddress],
  [PrefixText, canonicalPrefix],
  [Timestamp, canonicalTime],
]);

/** By event type: its fields that hold addresses, prefixes or times, or lists of them. */
const FIELDS = new Map(
  Object.entries({ ...nodeEventSchemas, ...controlEventSchemas }).map(([type, { properties }]) => [
    type,
    Object.entries(properties as Record<string, TSchema>).flatMap(([name, schema]) => {
      const canonical = canonicalOf(schema);
      return canonical ? [{ name, canonical }] : [];
    }),
  ]),
);

/**
 * The event of an envelope, as the current version of its type has it, with its addresses, prefixes and times in canonical
 * form: two spellings of an address must not become two addresses. Throws InvalidEventError.
 */
export function checkEvent(envelope: EventEnvelope): VpnEvent {
  const event = validateEvent(envelope);
  let data: Record<string, unknown> = event.data;
  try {
    canonicalTime(event.at);
    for (const { name, canonical } of FIELDS.get(event.type) ?? []) {
      const value = data[name];
      if (typeof value === 'string') {
        const text = canonical(value);
        if (text !== value) data = { ...data, [name]: text };
      } else if (Array.isArray(value)) {
        data = { ...data, [name]: value.map(canonical) };
      }
    }
  } catch (cause) {
    const what = `event ${event.type} ${event.node}/${event.epoch}/${event.seq}`;
    throw new InvalidEventError(what, cause instanceof Error ? cause.message : String(cause), { cause });
  }
  return data === event.data ? event : ({ ...event, data } as VpnEvent);
}

function canonicalOf(schema: TSchema): Canonical | undefined {
  const { anyOf = [], items } = schema as { anyOf?: readonly TSchema[]; items?: TSchema };
  return [schema, ...anyOf, ...(items ? [items] : [])].map((one) => CANONICAL.get(one)).find(Boolean);
}

function canonicalTime(text: string): string {
  const time = new Date(text);
  // 2026-02-31 is read as March 3rd, so what comes back has to be what went in.
  if (Number.isNaN(time.getTime()) || time.toISOString() !== text) throw new RangeError(`"${text}" is not a time`);
  return text;
}
