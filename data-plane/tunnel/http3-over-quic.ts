import type { Http3Transport } from '../http3/http3-endpoint.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';

/** Carries HTTP/3 on one connection of a QUIC endpoint. Only clients open request streams. */
export function http3OverQuic(
  quic: QuicEndpoint,
  connection: number,
  openRequestStream: Http3Transport['openRequestStream'],
): Http3Transport {
  return {
    sendStream: (streamId, bytes, fin) => quic.sendStream(connection, streamId, bytes, fin),
    resetStream: (streamId, code) => quic.resetStream(connection, streamId, code),
    closeConnection: (code, reason) => quic.closeConnection(connection, code, reason),
    openRequestStream,
  };
}
