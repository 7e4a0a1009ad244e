import { type EventEnvelope, InvalidEventError, type VpnEvent, validateEvent } from '../../shared/events/envelope.ts';
import { formatAddress, parseAddress } from '../../shared/ip/address.ts';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';

/** Fields of events that hold an address, a prefix or a time. */
const MEANINGS: Readonly<Record<string, (text: string) => string>> = {
  address: (text) => formatAddress(parseAddress(text)),
  remoteAddress: (text) => formatAddress(parseAddress(text)),
  block: (text) => formatPrefix(parsePrefix(text)),
  pool: (text) => formatPrefix(parsePrefix(text)),
  leaseEnd: canonicalTime,
  lastSeenAt: canonicalTime,
  windowStart: canonicalTime,
  windowEnd: canonicalTime,
};

/**
 * The event of an envelope, with its addresses, prefixes and times in canonical form: two spellings of an address must
 * not become two addresses. Throws InvalidEventError.
 */
export function checkEvent(envelope: EventEnvelope): VpnEvent {
  const event = validateEvent(envelope);
  let data: Record<string, unknown> = event.data;
  try {
    canonicalTime(event.at);
    for (const [name, canonical] of Object.entries(MEANINGS)) {
      const value = data[name];
      if (typeof value !== 'string') continue;
      const text = canonical(value);
      if (text !== value) data = { ...data, [name]: text };
    }
  } catch (cause) {
    const what = `event ${event.type} ${event.node}/${event.epoch}/${event.seq}`;
    throw new InvalidEventError(what, cause instanceof Error ? cause.message : String(cause), { cause });
  }
  return data === event.data ? event : ({ ...event, data } as VpnEvent);
}

function canonicalTime(text: string): string {
  const time = new Date(text);
  // 2026-02-31 is read as March 3rd, so what comes back has to be what went in.
  if (Number.isNaN(time.getTime()) || time.toISOString() !== text) throw new RangeError(`"${text}" is not a time`);
  return text;
}
