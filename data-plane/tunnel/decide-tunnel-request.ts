import type { RequestFields } from '../http3/field-section.ts';
import { isExtensionHeader } from '../ip/ipv6-header.ts';
import { type ConnectIpDecision, decideConnectIp } from '../masque/connect-ip-request.ts';
import { compilePathTemplate, DEFAULT_PATH_TEMPLATE } from '../masque/path-template.ts';

const SERVICE = { pathTemplate: compilePathTemplate(DEFAULT_PATH_TEMPLATE) };
const NOT_IMPLEMENTED = 501;

/**
 * What a request asks of this node, or how it is refused; the same over every version of HTTP. `authorities` are the names under which it is
 * served, any where there are none; `upgrades` the values of `:protocol` that are served where it came. Who asks is not looked at.
 */
export function decideTunnelRequest(
  request: RequestFields,
  authorities: readonly string[],
  upgrades?: readonly string[],
): ConnectIpDecision {
  const decision = decideConnectIp(request, {
    ...SERVICE,
    ...(authorities.length > 0 && { authorities }),
    ...(upgrades !== undefined && { upgrades }),
  });
  if (decision.kind === 'rejected' || decision.protocol === 'any' || !isExtensionHeader(decision.protocol))
    return decision;
  // No packet is "of" an extension header here: the chain is walked to what it ends with (RFC 9484 4.8 leaves that to us).
  return { kind: 'rejected', status: NOT_IMPLEMENTED, reason: 'scoped to an IPv6 extension header' };
}
