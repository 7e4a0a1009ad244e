import { H3_FRAME_ERROR, H3_SETTINGS_ERROR, Http3ConnectionError } from './error-codes.ts';
import { encodeFrame, FRAME_SETTINGS } from './frame.ts';
import { encodedVarintLength, readVarint, VARINT_TRUNCATED, varintLength, writeVarint } from './varint.ts';

/** Setting identifiers: RFC 9114 7.2.4.1, RFC 9204 5, RFC 9220 5, RFC 9297 2.1.1. */
export const SETTING_QPACK_MAX_TABLE_CAPACITY = 0x01;
export const SETTING_MAX_FIELD_SECTION_SIZE = 0x06;
export const SETTING_QPACK_BLOCKED_STREAMS = 0x07;
export const SETTING_ENABLE_CONNECT_PROTOCOL = 0x08;
export const SETTING_H3_DATAGRAM = 0x33;

/**
 * A server takes WebTransport sessions, in the drafts that browsers speak: draft-ietf-webtrans-http3-02 3.1 says whether, -07 3.1 how many on
 * one connection.
 */
export const SETTING_ENABLE_WEBTRANSPORT = 0x2b603742;
export const SETTING_WEBTRANSPORT_MAX_SESSIONS = 0xc671706a;

/** One of the reserved identifiers 0x1f * N + 0x21, sent so that peers keep ignoring what they do not know. */
export const SETTING_GREASE = 0x1f * 0x2a + 0x21;

/** The most SETTINGS payload we take, ours: a peer that knows every registered setting needs about 100 bytes. */
export const MAX_SETTINGS_BYTES = 4096;

export interface Http3Settings {
  /** Extended CONNECT may be used towards the sender (RFC 9220). */
  readonly enableConnectProtocol: boolean;
  /** The sender takes HTTP datagrams (RFC 9297). */
  readonly h3Datagram: boolean;
  /** The largest decoded field section the sender takes, in bytes as RFC 9114 4.2.2 counts them. Infinity when unlimited. */
  readonly maxFieldSectionSize: number;
}

/**
 * Throws H3_FRAME_ERROR when a pair is cut off, H3_SETTINGS_ERROR for a repeated identifier, for one that HTTP/2 used,
 * and for a flag that is neither 0 nor 1. Unknown settings are ignored.
 */
export function parseSettings(payload: Uint8Array): Http3Settings {
  const values = new Map<number, number>();
  let offset = 0;
  while (offset < payload.length) {
    const id = readVarint(payload, offset, payload.length);
    const valueOffset = offset + varintLength(payload[offset]!);
    const value = readVarint(payload, valueOffset, payload.length);
    if (id === VARINT_TRUNCATED || value === VARINT_TRUNCATED) {
      throw new Http3ConnectionError(H3_FRAME_ERROR, `SETTINGS of ${payload.length} bytes ends inside a setting`);
    }
    offset = valueOffset + varintLength(payload[valueOffset]!);
    checkSetting(id, value);
    if (!Number.isFinite(id)) continue;
    if (values.has(id)) throw new Http3ConnectionError(H3_SETTINGS_ERROR, `setting 0x${id.toString(16)} came twice`);
    values.set(id, value);
  }
  return {
    enableConnectProtocol: values.get(SETTING_ENABLE_CONNECT_PROTOCOL) === 1,
    h3Datagram: values.get(SETTING_H3_DATAGRAM) === 1,
    maxFieldSectionSize: values.get(SETTING_MAX_FIELD_SECTION_SIZE) ?? Number.POSITIVE_INFINITY,
  };
}

function checkSetting(id: number, value: number): void {
  if (id === 0x00 || (id >= 0x02 && id <= 0x05)) {
    throw new Http3ConnectionError(H3_SETTINGS_ERROR, `setting 0x${id.toString(16)} belongs to HTTP/2`);
  }
  if ((id === SETTING_ENABLE_CONNECT_PROTOCOL || id === SETTING_H3_DATAGRAM) && value > 1) {
    throw new Http3ConnectionError(H3_SETTINGS_ERROR, `setting 0x${id.toString(16)} is ${value}, expected 0 or 1`);
  }
}

/** A SETTINGS frame from pairs of identifier and value. */
export function encodeSettings(settings: Iterable<readonly [id: number, value: number]>): Uint8Array {
  const pairs = [...settings];
  let length = 0;
  for (const [id, value] of pairs) length += encodedVarintLength(id) + encodedVarintLength(value);
  const payload = new Uint8Array(length);
  let offset = 0;
  for (const [id, value] of pairs) {
    offset += writeVarint(payload, offset, id);
    offset += writeVarint(payload, offset, value);
  }
  return encodeFrame(FRAME_SETTINGS, payload);
}
