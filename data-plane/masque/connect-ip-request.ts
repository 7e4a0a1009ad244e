import { parseAddress } from '../../shared/ip/address.ts';
import { hostPrefix, type IpPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { H3_MESSAGE_ERROR } from '../http3/error-codes.ts';
import type { RequestFields } from '../http3/field-section.ts';
import { type BearerToken, findBearerToken } from './bearer-token.ts';
import { findContentField, hasCapsuleProtocol } from './capsule-protocol.ts';
import { matchPath, type PathTemplate } from './path-template.ts';
import { percentDecode } from './percent-decode.ts';

/** Where packets may go: anywhere, into one prefix, or to the addresses of a name that is still to be resolved. */
export type ConnectIpTarget =
  | { readonly kind: 'any' }
  | { readonly kind: 'prefix'; readonly prefix: IpPrefix }
  | { readonly kind: 'hostname'; readonly hostname: string };

/** An IP protocol number, or all of them. */
export type ConnectIpProtocol = number | 'any';

export interface ConnectIpService {
  readonly pathTemplate: PathTemplate;
  /** The values of `:protocol` that lead to it; `connect-ip` alone without this. */
  readonly upgrades?: readonly string[];
  /** The values of `:authority` that are served, e.g. `vpn.example:4433`; without it any is. `:443` may be left out. */
  readonly authorities?: readonly string[];
}

export type ConnectIpDecision =
  | {
      readonly kind: 'accepted';
      readonly target: ConnectIpTarget;
      readonly protocol: ConnectIpProtocol;
      /** What the client authenticates with. Never log it. */
      readonly token: BearerToken | undefined;
      readonly capsuleProtocol: boolean;
    }
  | {
      readonly kind: 'rejected';
      /** The response status; 400 goes with a reset code. */
      readonly status: number;
      /** The request is malformed: the stream is to be aborted with this code, a response before it is optional. */
      readonly resetCode?: number;
      /** Fit for logs: names what is wrong and never quotes the request. */
      readonly reason: string;
    };

/** What a request that is well-formed asks for. */
export type AcceptedRequest = Extract<ConnectIpDecision, { kind: 'accepted' }>;
type Rejection = Extract<ConnectIpDecision, { kind: 'rejected' }>;

const CONNECT_IP: readonly string[] = ['connect-ip'];
const HOST_LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;

/** Bytes of the longest host name (RFC 1035 2.3.4). */
const MAX_HOSTNAME_BYTES = 253;

/**
 * Decides about a request to a CONNECT-IP proxy (RFC 9484 3, 4.4, 4.6): what it asks for, or how it is refused.
 * Whether the token is good is for the caller to decide.
 */
export function decideConnectIp(request: RequestFields, service: ConnectIpService): ConnectIpDecision {
  if (request.protocol === undefined) return decideOther(request, service);
  if (!(service.upgrades ?? CONNECT_IP).includes(request.protocol)) return rejected(501, 'unknown :protocol');
  const contentField = findContentField(request.fields);
  if (contentField !== undefined) return malformed(`${contentField} in a CONNECT-IP request`);
  if (request.scheme !== 'https') return rejected(400, ':scheme is not https');
  if (!isServed(request.authority ?? '', service.authorities)) return rejected(421, ':authority is not served here');

  const { path, query } = splitPath(request.path ?? '');
  if (!path.startsWith('/')) return malformed(':path does not start with "/"');
  const variables = matchPath(service.pathTemplate, path);
  if (variables === undefined) return rejected(404, 'no CONNECT-IP service at this path');
  const target = variables.target === undefined ? ANY_TARGET : parseTarget(variables.target);
  if (target === undefined) return malformed('the target variable is not "*", an address, a prefix or a host name');
  const protocol = variables.ipproto === undefined ? 'any' : parseProtocol(variables.ipproto);
  if (protocol === undefined) return malformed('the ipproto variable is not "*" or 0 to 255');

  const token = findBearerToken(request.fields, query);
  if (token === 'malformed') return malformed('the token parameter is not percent-encoded UTF-8');
  return { kind: 'accepted', target, protocol, token, capsuleProtocol: hasCapsuleProtocol(request.fields) };
}

const ANY_TARGET: ConnectIpTarget = { kind: 'any' };

function decideOther(request: RequestFields, service: ConnectIpService): Rejection {
  if (request.method === 'CONNECT') return rejected(501, 'CONNECT without :protocol');
  const { path } = splitPath(request.path ?? '');
  if (matchPath(service.pathTemplate, path) === undefined) return rejected(404, 'nothing at this path');
  return rejected(405, 'the method is not CONNECT');
}

function isServed(authority: string, served: readonly string[] | undefined): boolean {
  return served === undefined || served.some((one) => bareAuthority(one) === bareAuthority(authority));
}

function bareAuthority(authority: string): string {
  return authority.toLowerCase().replace(/:443$/, '');
}

function splitPath(raw: string): { path: string; query: string } {
  const mark = raw.indexOf('?');
  return mark < 0 ? { path: raw, query: '' } : { path: raw.slice(0, mark), query: raw.slice(mark + 1) };
}

function parseTarget(raw: string): ConnectIpTarget | undefined {
  const text = percentDecode(raw);
  if (text === undefined) return undefined;
  if (text === '*') return ANY_TARGET;
  const prefix = parseTargetPrefix(text);
  if (prefix !== undefined) return { kind: 'prefix', prefix };
  return isHostname(text) ? { kind: 'hostname', hostname: text.toLowerCase() } : undefined;
}

function parseTargetPrefix(text: string): IpPrefix | undefined {
  try {
    return text.includes('/') ? parsePrefix(text) : hostPrefix(parseAddress(text));
  } catch {
    return undefined;
  }
}

/** A last label of digits only would make it an IPv4 address that is none. */
function isHostname(text: string): boolean {
  const labels = text.replace(/\.$/, '').split('.');
  if (text.length > MAX_HOSTNAME_BYTES || /^\d+$/.test(labels.at(-1) ?? '')) return false;
  return labels.every((label) => HOST_LABEL.test(label));
}

function parseProtocol(raw: string): ConnectIpProtocol | undefined {
  const text = percentDecode(raw);
  if (text === '*') return 'any';
  return text !== undefined && /^\d{1,3}$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}

function rejected(status: number, reason: string): Rejection {
  return { kind: 'rejected', status, reason };
}

function malformed(reason: string): Rejection {
  return { kind: 'rejected', status: 400, resetCode: H3_MESSAGE_ERROR, reason };
}
