import { CodedError } from '../../shared/errors.ts';
import type { RequestFields } from '../http3/field-section.ts';
import type { FieldLine } from '../http3/qpack/field-line.ts';
import { isBearerToken } from './bearer-token.ts';
import { CAPSULE_PROTOCOL_FIELD } from './capsule-protocol.ts';
import { DEFAULT_PATH_TEMPLATE } from './path-template.ts';

export type ConnectIpUrlCode = 'INVALID_PROXY_URL' | 'INVALID_TOKEN';

/** The URL or the token cannot be used. The message never quotes either: both can be secrets. */
export class ConnectIpUrlError extends CodedError {
  constructor(code: ConnectIpUrlCode, message: string) {
    super(code, message);
  }
}

/** The wildcard as a URI template expands it. */
const ANY = '%2A';
/** The variables of RFC 9484 3, also as a URL object spells them. */
const VARIABLE = /(?:\{|%7b)(?:target|ipproto)(?:\}|%7d)/gi;

/**
 * The request for an unscoped tunnel to the proxy at a URL, e.g. `https://vpn.example:4433`. A URL without a path
 * means the default one of RFC 9484; `{target}` and `{ipproto}` become the wildcard; all else is sent as it is.
 * Throws ConnectIpUrlError.
 */
export function buildConnectIpRequest(url: string, token: string | undefined): RequestFields {
  const parsed = URL.parse(url.replaceAll(VARIABLE, ANY));
  if (parsed === null || parsed.protocol !== 'https:') {
    throw new ConnectIpUrlError('INVALID_PROXY_URL', 'the proxy URL is not an https: URL');
  }
  if (parsed.username !== '' || parsed.password !== '') {
    throw new ConnectIpUrlError('INVALID_PROXY_URL', 'the proxy URL has a user name or password, use a token');
  }
  if (/[{}]|%7[bd]/i.test(parsed.pathname + parsed.search)) {
    throw new ConnectIpUrlError('INVALID_PROXY_URL', 'the proxy URL has a variable other than {target} and {ipproto}');
  }
  if (token !== undefined && !isBearerToken(token)) {
    throw new ConnectIpUrlError('INVALID_TOKEN', 'the token has characters that a bearer token cannot have');
  }
  const defaultPath = DEFAULT_PATH_TEMPLATE.replaceAll(VARIABLE, ANY);
  const path = parsed.pathname === '/' ? defaultPath : parsed.pathname;
  const fields: FieldLine[] = [CAPSULE_PROTOCOL_FIELD];
  if (token !== undefined) fields.push(['authorization', `Bearer ${token}`]);
  return {
    method: 'CONNECT',
    protocol: 'connect-ip',
    scheme: 'https',
    authority: parsed.host,
    path: path + parsed.search,
    fields,
  };
}
