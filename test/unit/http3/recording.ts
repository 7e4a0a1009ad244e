import type { Http3ConnectionError } from '../../../data-plane/http3/error-codes.ts';
import type { RequestFields } from '../../../data-plane/http3/field-section.ts';
import { Http3Connection } from '../../../data-plane/http3/http3-connection.ts';
import type {
  Http3ConnectionOptions,
  Http3Events,
  Http3Role,
  Http3Transport,
} from '../../../data-plane/http3/http3-endpoint.ts';
import { encodeFieldSection } from '../../../data-plane/http3/qpack/encoder.ts';
import type { FieldLine } from '../../../data-plane/http3/qpack/field-line.ts';
import { encodeVarint } from '../../../data-plane/http3/varint.ts';

/** What a connection did to its transport. */
export interface SentStream {
  bytes: Uint8Array;
  fin: boolean;
}

export class RecordingTransport implements Http3Transport {
  readonly sent = new Map<number, SentStream>();
  readonly resets: { streamId: number; errorCode: number }[] = [];
  closed: { errorCode: number; reason: string } | undefined;
  #nextRequestStream = 0;

  sendStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    const before = this.sent.get(streamId);
    if (before?.fin) throw new Error(`stream ${streamId} was written after its end`);
    this.sent.set(streamId, { bytes: concat(before?.bytes ?? new Uint8Array(0), bytes), fin });
  }

  resetStream(streamId: number, errorCode: number): void {
    this.resets.push({ streamId, errorCode });
  }

  closeConnection(errorCode: number, reason: string): void {
    if (this.closed !== undefined) throw new Error('the connection was closed twice');
    this.closed = { errorCode, reason };
  }

  openRequestStream(): number {
    const id = this.#nextRequestStream;
    this.#nextRequestStream += 4;
    return id;
  }
}

export class RecordingEvents implements Http3Events {
  readonly log: string[] = [];
  readonly requests: { streamId: number; request: RequestFields }[] = [];
  readonly data = new Map<number, Uint8Array>();
  error: Http3ConnectionError | undefined;

  onSettings(): void {
    this.log.push('settings');
  }
  onRequest(streamId: number, request: RequestFields): void {
    this.log.push(`request ${streamId}`);
    this.requests.push({ streamId, request });
  }
  onRequestRefused(streamId: number, status: number): void {
    this.log.push(`refused ${streamId} ${status}`);
  }
  onResponse(streamId: number, status: number, _fields: readonly FieldLine[]): void {
    this.log.push(`response ${streamId} ${status}`);
  }
  onData(streamId: number, bytes: Uint8Array): void {
    this.data.set(streamId, concat(this.data.get(streamId) ?? new Uint8Array(0), bytes));
  }
  onSessionStream(streamId: number, sessionId: number): void {
    this.log.push(`session ${sessionId} stream ${streamId}`);
  }
  onStreamEnd(streamId: number): void {
    this.log.push(`end ${streamId}`);
  }
  onStreamReset(streamId: number, errorCode: number): void {
    this.log.push(`reset ${streamId} 0x${errorCode.toString(16)}`);
  }
  onGoaway(id: number): void {
    this.log.push(`goaway ${id}`);
  }
  onConnectionError(error: Http3ConnectionError): void {
    this.log.push(`error 0x${error.wireCode.toString(16)}`);
    this.error = error;
  }
}

export interface Recorded {
  readonly connection: Http3Connection;
  readonly transport: RecordingTransport;
  readonly events: RecordingEvents;
}

export function recorded(role: Http3Role, options?: Http3ConnectionOptions): Recorded {
  const transport = new RecordingTransport();
  const events = new RecordingEvents();
  const connection = new Http3Connection(role, transport, events, options);
  connection.start();
  return { connection, transport, events };
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

export function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
}

/** A frame with any type, length and payload, also ones that do not fit together. */
export function frame(type: number, payload: Uint8Array, length: number | bigint = payload.length): Uint8Array {
  return concat(encodeVarint(type), encodeVarint(length), payload);
}

export function headers(lines: readonly FieldLine[]): Uint8Array {
  return frame(0x01, encodeFieldSection(lines));
}

export const CONNECT_IP: readonly FieldLine[] = [
  [':method', 'CONNECT'],
  [':protocol', 'connect-ip'],
  [':scheme', 'https'],
  [':authority', 'vpn.example'],
  [':path', '/.well-known/masque/ip/*/*/'],
  ['capsule-protocol', '?1'],
];

/** A control stream that starts with the SETTINGS of a server or client. */
export const CONTROL_WITH_SETTINGS = concat(hex('00'), frame(0x04, hex('0801 3301')));
