import type { FieldLine } from '../http3/qpack/field-line.ts';
import { percentDecode } from './percent-decode.ts';

/** A token and where the client put it. The value must never reach a log, an event or an error message. */
export interface BearerToken {
  readonly value: string;
  readonly source: 'authorization' | 'query';
}

/** The characters of a bearer token, RFC 6750 2.1. */
const TOKEN_68 = /^[A-Za-z0-9\-._~+/]+=*$/;
const BEARER_CREDENTIALS = /^bearer +([A-Za-z0-9\-._~+/]+=*) *$/i;

export function isBearerToken(text: string): boolean {
  return TOKEN_68.test(text);
}

/**
 * The token of a request: from `Authorization: Bearer`, or from the `token` parameter of the query for clients that
 * cannot set fields. Undefined when there is none, 'malformed' when the parameter cannot be decoded.
 */
export function findBearerToken(fields: readonly FieldLine[], query: string): BearerToken | undefined | 'malformed' {
  for (const [name, value] of fields) {
    if (name !== 'authorization') continue;
    const token = BEARER_CREDENTIALS.exec(value)?.[1];
    if (token !== undefined) return { value: token, source: 'authorization' };
  }
  for (const parameter of query.split('&')) {
    if (!parameter.startsWith('token=')) continue;
    const token = percentDecode(parameter.slice('token='.length));
    if (token === undefined) return 'malformed';
    return isBearerToken(token) ? { value: token, source: 'query' } : undefined;
  }
  return undefined;
}
