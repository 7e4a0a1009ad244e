import { acceptOwnSource } from '../tun/accept-own-source.ts';
import { IpCommandError } from '../tun/ip-command.ts';
import { TunDevice, type TunOptions } from '../tun/tun-device.ts';
import type { DropCounters } from './drop-counters.ts';
import { IcmpResponder } from './icmp-responder.ts';
import type { TunnelBlock } from './tunnel-messages.ts';
import type { TunnelSession } from './tunnel-session.ts';

/** The network of the tunnels at this host: the TUN device, with a route to each block and the node's address in it, if it has one. */
export class TunnelNetwork {
  readonly tun: TunDevice<TunnelSession>;
  readonly icmp: IcmpResponder;

  /** Opens the device. What the kernel did not take of it is counted as dropped, and no longer as the client's. */
  constructor(options: TunOptions, drops: DropCounters) {
    this.icmp = new IcmpResponder(options.mtu);
    this.tun = TunDevice.open(options, (session, packets, bytes) => {
      session.counters.uncountIn(packets, bytes);
      drops.count('tun', packets);
    });
    this.tun.up();
    acceptOwnSource(this.tun.name);
  }

  /** What could not be done, or null. */
  addBlock({ block, nodeAddress }: TunnelBlock): string | null {
    if (nodeAddress === null) return takeAll([() => this.tun.addRoute(block)]);
    return takeAll([
      () => this.tun.addAddress(hostPrefixText(nodeAddress)),
      () => this.tun.addRoute(block),
      () => this.icmp.addAddress(nodeAddress),
    ]);
  }

  /** What could not be done, or null. */
  removeBlock({ block, nodeAddress }: TunnelBlock): string | null {
    if (nodeAddress === null) return takeAll([() => this.tun.removeRoute(block)]);
    return takeAll([
      () => this.icmp.removeAddress(nodeAddress),
      () => this.tun.removeRoute(block),
      () => this.tun.removeAddress(hostPrefixText(nodeAddress)),
    ]);
  }
}

/** Takes every step, also after one that `ip` refused: the host's network is not ours alone, and no reason to end all tunnels. */
function takeAll(steps: readonly (() => void)[]): string | null {
  const problems: string[] = [];
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      if (!(error instanceof IpCommandError)) throw error;
      problems.push(error.message);
    }
  }
  return problems.length === 0 ? null : problems.join('; ');
}

function hostPrefixText(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}
