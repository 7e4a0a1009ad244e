import { constants } from 'node:http2';
import {
  H3_EXCESSIVE_LOAD,
  H3_INTERNAL_ERROR,
  H3_NO_ERROR,
  H3_REQUEST_CANCELLED,
  H3_REQUEST_REJECTED,
} from '../http3/error-codes.ts';

/** What HTTP/2 has for an error of HTTP/3 (RFC 9113 7); PROTOCOL_ERROR stands for all that says that the peer broke a rule. */
const HTTP2_CODES: ReadonlyMap<number, number> = new Map([
  [H3_NO_ERROR, constants.NGHTTP2_NO_ERROR],
  [H3_INTERNAL_ERROR, constants.NGHTTP2_INTERNAL_ERROR],
  [H3_EXCESSIVE_LOAD, constants.NGHTTP2_ENHANCE_YOUR_CALM],
  [H3_REQUEST_REJECTED, constants.NGHTTP2_REFUSED_STREAM],
  [H3_REQUEST_CANCELLED, constants.NGHTTP2_CANCEL],
]);

/** The code that resets a stream of HTTP/2 where one of HTTP/3 would be reset with `errorCode`. */
export function http2ErrorCode(errorCode: number): number {
  return HTTP2_CODES.get(errorCode) ?? constants.NGHTTP2_PROTOCOL_ERROR;
}
