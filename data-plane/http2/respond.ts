import { constants, type ServerHttp2Stream } from 'node:http2';
import type { FieldLine } from '../http3/qpack/field-line.ts';

/** Answers with a tunnel: the stream stays open, until it is ended or closed with a code. */
export function respondOpen(stream: ServerHttp2Stream, status: number, fields: readonly FieldLine[]): void {
  if (stream.closed) return;
  // Node ends a stream cleanly before it resets it, which would tell the client that all is well; but not while it waits for trailers. We
  // have none, and for none Node sends the end alone.
  stream.once('wantTrailers', () => {
    if (!stream.closed) stream.sendTrailers({});
  });
  stream.respond({ ':status': status, ...Object.fromEntries(fields) }, { waitForTrailers: true });
}

/** Answers without one, and has done with the stream: nothing that the client sends on it is of interest (RFC 9113 8.1). */
export function respondWhole(stream: ServerHttp2Stream, status: number, fields: readonly FieldLine[]): void {
  // A drain answers what the main thread will decide about a moment later.
  if (stream.closed || stream.headersSent) return;
  stream.respond({ ':status': status, ...Object.fromEntries(fields) }, { endStream: true });
  // Not at once: while nghttp2 hands over what it received, a reset would overtake the answer.
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
}

/** Resets a stream that has not closed by itself in time. */
export function closeLater(stream: ServerHttp2Stream, timeoutMs: number): void {
  const timer = setTimeout(() => {
    // Without an error Node would wait until the client has read all, which it may never do.
    stream.close(stream.writableFinished ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL);
  }, timeoutMs);
  stream.once('close', () => clearTimeout(timer));
}
