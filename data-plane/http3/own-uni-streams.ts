import { encodeGoaway } from './goaway-frame.ts';
import type { Http3Role, Http3Transport } from './http3-endpoint.ts';
import { STREAM_CONTROL, STREAM_QPACK_DECODER, STREAM_QPACK_ENCODER } from './peer-uni-streams.ts';
import { MAX_FIELD_SECTION_BYTES } from './request-stream.ts';
import {
  encodeSettings,
  SETTING_ENABLE_CONNECT_PROTOCOL,
  SETTING_ENABLE_WEBTRANSPORT,
  SETTING_GREASE,
  SETTING_H3_DATAGRAM,
  SETTING_MAX_FIELD_SECTION_SIZE,
  SETTING_WEBTRANSPORT_MAX_SESSIONS,
} from './settings-frame.ts';

/** The stream types every endpoint opens first; the ids of the nth stream are 4n + 2 at a client, 4n + 3 at a server. */
const STREAM_TYPES = [STREAM_CONTROL, STREAM_QPACK_ENCODER, STREAM_QPACK_DECODER];
const CONTROL_INDEX = 0;

const NO_BYTES = new Uint8Array(0);

/** The unidirectional streams that we open: the control stream, and those of QPACK, on which nothing follows. */
export class OwnUniStreams {
  readonly #role: Http3Role;
  readonly #transport: Http3Transport;

  constructor(role: Http3Role, transport: Http3Transport) {
    this.#role = role;
    this.#transport = transport;
  }

  /** Opens them, with SETTINGS (RFC 9114 6.2.1). */
  start(maxSessions: number): void {
    const settings: [number, number][] = [[SETTING_MAX_FIELD_SECTION_SIZE, MAX_FIELD_SECTION_BYTES]];
    if (this.#role === 'server') settings.push([SETTING_ENABLE_CONNECT_PROTOCOL, 1]);
    if (maxSessions > 0) {
      settings.push([SETTING_ENABLE_WEBTRANSPORT, 1], [SETTING_WEBTRANSPORT_MAX_SESSIONS, maxSessions]);
    }
    settings.push([SETTING_H3_DATAGRAM, 1], [SETTING_GREASE, 0]);
    for (const [index, type] of STREAM_TYPES.entries()) {
      const payload = type === STREAM_CONTROL ? encodeSettings(settings) : NO_BYTES;
      const bytes = new Uint8Array(1 + payload.length);
      bytes[0] = type;
      bytes.set(payload, 1);
      this.#transport.sendStream(this.#id(index), bytes, false);
    }
  }

  sendGoaway(id: number | bigint): void {
    this.#transport.sendStream(this.#id(CONTROL_INDEX), encodeGoaway(id), false);
  }

  /** Whether a stream is of the kind that only we open. */
  has(streamId: number): boolean {
    return streamId % 4 === this.#id(0);
  }

  #id(index: number): number {
    return 4 * index + (this.#role === 'server' ? 3 : 2);
  }
}
