/** What the core reports, as one closed union. Bytes are offsets into its memory, good until the next call into it. */
export type CoreEvent =
  | { readonly kind: 'connection'; readonly connection: number; readonly peer: string }
  | { readonly kind: 'handshake'; readonly connection: number; readonly clientCertificate: boolean }
  | {
      readonly kind: 'stream';
      readonly connection: number;
      readonly streamId: number;
      readonly offset: number;
      readonly length: number;
      readonly fin: boolean;
    }
  | {
      readonly kind: 'streamReset';
      readonly connection: number;
      readonly streamId: number;
      readonly errorCode: number;
    }
  | { readonly kind: 'writable'; readonly connection: number; readonly streamId: number }
  | { readonly kind: 'datagram'; readonly connection: number; readonly offset: number; readonly length: number }
  | { readonly kind: 'closed'; readonly connection: number; readonly errorCode: number; readonly reason: string };

interface RawEvent {
  eventType: number;
  connHandle: number;
  streamId: number;
  fin: boolean;
  dataOff?: number;
  dataLen?: number;
  meta?: {
    errorCode?: number;
    errorReason?: string;
    remoteAddr?: string;
    remotePort?: number;
    peerCertificatePresented?: boolean;
  };
}

// The numbers are the package's (its event contract); those not listed say nothing that we need.
const NEW_SESSION = 1;
const NEW_STREAM = 2;
const DATA = 4;
const FINISHED = 5;
const RESET = 6;
const SESSION_CLOSE = 7;
const DRAIN = 8;
const ERROR = 10;
const HANDSHAKE_COMPLETE = 11;
const DATAGRAM = 14;

const STREAM_ERROR = /^Stream(?:Reset|Stopped)\((\d+)\)$/;

/** Turns the core's JSON into events. `singleConnection` replaces the handle that a client's core puts in its place. */
export function decodeCoreEvents(json: string, singleConnection: boolean): CoreEvent[] {
  const events: CoreEvent[] = [];
  for (const raw of JSON.parse(json) as RawEvent[]) {
    const event = decode(raw, singleConnection ? 0 : raw.connHandle);
    if (event !== undefined) events.push(event);
  }
  return events;
}

function decode(raw: RawEvent, connection: number): CoreEvent | undefined {
  const { streamId } = raw;
  switch (raw.eventType) {
    case DATAGRAM:
      return { kind: 'datagram', connection, offset: raw.dataOff ?? 0, length: raw.dataLen ?? 0 };
    case NEW_STREAM:
    case DATA:
      return { kind: 'stream', connection, streamId, offset: raw.dataOff ?? 0, length: raw.dataLen ?? 0, fin: raw.fin };
    case FINISHED:
      return { kind: 'stream', connection, streamId, offset: 0, length: 0, fin: true };
    case RESET:
      return { kind: 'streamReset', connection, streamId, errorCode: raw.meta?.errorCode ?? 0 };
    case ERROR: {
      const code = STREAM_ERROR.exec(raw.meta?.errorReason ?? '')?.[1];
      return code === undefined ? undefined : { kind: 'streamReset', connection, streamId, errorCode: Number(code) };
    }
    case DRAIN:
      return { kind: 'writable', connection, streamId };
    case NEW_SESSION: {
      const host = raw.meta?.remoteAddr ?? '';
      const port = raw.meta?.remotePort ?? 0;
      return { kind: 'connection', connection, peer: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}` };
    }
    case HANDSHAKE_COMPLETE:
      return { kind: 'handshake', connection, clientCertificate: raw.meta?.peerCertificatePresented ?? false };
    case SESSION_CLOSE:
      return {
        kind: 'closed',
        connection,
        errorCode: raw.meta?.errorCode ?? 0,
        reason: raw.meta?.errorReason ?? '',
      };
    default:
      return undefined;
  }
}
