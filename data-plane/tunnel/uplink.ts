import { staysOnLink } from '../ip/link-scope.ts';
import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo, type PacketInfo } from '../ip/packet-info.ts';
import type { DropReason } from './drop-counters.ts';
import type { TunnelSession } from './tunnel-session.ts';

/**
 * What becomes of a packet from a client. `probe`: the answer to a probe of ours, which ends here. `no_route` and `protocol`: outside of
 * what the client was told that it may send, which it is told again; `scope`: to where nobody may.
 */
export type UplinkVerdict =
  | 'forward'
  | 'probe'
  | 'no_route'
  | 'protocol'
  | Extract<DropReason, 'malformed' | 'source' | 'scope'>;

/** What the headers of the packet that was checked last say; meaningless after `malformed`. */
export const uplinkInfo: PacketInfo = createPacketInfo();

/** Decides about one packet from a tunnel: whole, not for its link alone, from its own address, to somewhere it may go (RFC 9484 7.2). */
export function checkUplink(session: TunnelSession, bytes: Uint8Array, offset: number, length: number): UplinkVerdict {
  const info = uplinkInfo;
  if (inspectPacket(bytes, offset, length, info) !== 'ok') return 'malformed';
  if (staysOnLink(bytes, offset, info)) return 'scope';
  if (!session.ownsSource(bytes, offset, info)) return 'source';
  if (session.takeProbeAnswer(bytes, offset, info)) return 'probe';
  const verdict = session.checkUplink(bytes, offset, info);
  if (verdict === 'inside') return 'forward';
  return verdict === 'address' ? 'no_route' : 'protocol';
}
