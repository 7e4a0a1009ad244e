import { H3_MESSAGE_ERROR } from '../http3/error-codes.ts';
import type { FieldLine } from '../http3/qpack/field-line.ts';
import { CAPSULE_PROTOCOL_FIELD, findContentField } from './capsule-protocol.ts';

/** The status of a tunnel that is open. */
export const TUNNEL_STATUS = 200;

/** The fields of the 200 that opens a tunnel. */
export const TUNNEL_RESPONSE_FIELDS: readonly FieldLine[] = [CAPSULE_PROTOCOL_FIELD];

/** Why a target cannot be reached: its name is not to be resolved, or the node lets nobody go there (RFC 9209 2.3.2, 2.3.5). */
export type ProxyError = 'dns_error' | 'destination_ip_prohibited';

/** The fields of a refusal. */
export function refusalFields(status: number, proxyError?: ProxyError): readonly FieldLine[] {
  if (proxyError !== undefined) return [['proxy-status', `masque-vpn; error=${proxyError}`]];
  if (status === 401) return [['www-authenticate', 'Bearer']];
  if (status === 405) return [['allow', 'CONNECT']];
  return [];
}

export type ConnectIpAnswer =
  | { readonly kind: 'tunnel' }
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'malformed'; readonly resetCode: number; readonly reason: string };

/** What the final response to a CONNECT-IP request says (RFC 9484 4.5, RFC 9297 3.2). */
export function readConnectIpResponse(status: number, fields: readonly FieldLine[]): ConnectIpAnswer {
  if (status < 200 || status > 299) return { kind: 'refused', status };
  if (status >= 204 && status <= 206) return malformed(`status ${status} cannot open a tunnel`);
  const contentField = findContentField(fields);
  return contentField === undefined ? { kind: 'tunnel' } : malformed(`${contentField} in the response to CONNECT-IP`);
}

function malformed(reason: string): ConnectIpAnswer {
  return { kind: 'malformed', resetCode: H3_MESSAGE_ERROR, reason };
}
