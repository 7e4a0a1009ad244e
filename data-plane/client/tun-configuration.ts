import { IpCommandError, ipCommand } from '../tun/ip-command.ts';
import type { TunDevice } from '../tun/tun-device.ts';
import type { TunnelConfiguration } from './client-messages.ts';

const DEFAULT_ROUTES = new Set(['0.0.0.0/0', '::/0']);
/** A default route is added as two halves: they win over the one that is there, which stays as it was. */
const HALVES: Readonly<Record<string, readonly string[]>> = {
  '0.0.0.0/0': ['0.0.0.0/1', '128.0.0.0/1'],
  '::/0': ['::/1', '8000::/1'],
};
const DEFAULT_HALVES = Object.values(HALVES).flat();

/** Keeps addresses and routes of the TUN interface as the node last said. */
export class TunConfiguration {
  readonly #tun: TunDevice;
  readonly #chosenRoutes: readonly string[] | undefined;
  readonly #pinned = new Set<string>();
  #addresses: readonly string[] = [];
  #routes: readonly string[] = [];

  /** `chosenRoutes` replaces what the node advertises. */
  constructor(tun: TunDevice, chosenRoutes: readonly string[] | undefined) {
    this.#tun = tun;
    this.#chosenRoutes = chosenRoutes;
  }

  /** Applies what changed. `server` is reached outside of the tunnel, also when a default route goes into it. */
  apply(configuration: TunnelConfiguration, server: string): void {
    const { addresses } = configuration;
    const wanted = this.#chosenRoutes ?? configuration.routes;
    if (wanted.some((route) => DEFAULT_ROUTES.has(route))) this.#pin(server);
    const families = new Set(addresses.map(familyOf));
    // A route of a family without an address would send packets that the node must drop.
    const routes = wanted.flatMap((route) => HALVES[route] ?? [route]).filter((route) => families.has(familyOf(route)));
    for (const old of this.#addresses.filter((address) => !addresses.includes(address))) {
      withdraw(() => this.#tun.removeAddress(old));
    }
    for (const address of addresses) this.#tun.addAddress(address);
    for (const old of this.#routes.filter((route) => !routes.includes(route)))
      withdraw(() => this.#tun.removeRoute(old));
    // Removing an address may have taken routes along, so all are set again.
    for (const route of routes) this.#tun.addRoute(route);
    this.#addresses = addresses;
    this.#routes = routes;
  }

  /**
   * Before an attempt, while there is no tunnel: keeps the way to the server out of it. The host route that did so goes with a link that
   * goes down, and the server may have another address now. Throws IpCommandError, e.g. when the network is down.
   */
  prepare(server: string): void {
    const family = familyOf(server);
    const halves = DEFAULT_HALVES.filter((route) => familyOf(route) === family && this.#routes.includes(route));
    if (halves.length === 0 || hasRoute(server)) return;
    for (const route of halves) withdraw(() => this.#tun.removeRoute(route));
    try {
      this.#pin(server);
    } finally {
      for (const route of halves) this.#tun.addRoute(route);
    }
  }

  /** Takes back what would outlive the interface. */
  release(): void {
    for (const host of this.#pinned) withdraw(() => ipCommand([familyOf(host), 'route', 'flush', host]));
    this.#pinned.clear();
  }

  // The kernel's present way to the server becomes a host route, which no route into the tunnel can take over.
  #pin(server: string): void {
    if (hasRoute(server)) return;
    const family = familyOf(server);
    const host = hostPrefixText(server);
    const words = ipCommand([family, 'route', 'get', server]).split(/\s+/);
    const after = (word: string): string[] => {
      const value = words[words.indexOf(word) + 1];
      return words.includes(word) && value !== undefined ? [word, value] : [];
    };
    ipCommand([family, 'route', 'add', host, ...after('via'), ...after('dev')]);
    this.#pinned.add(host);
  }
}

function hasRoute(host: string): boolean {
  return ipCommand([familyOf(host), 'route', 'show', 'exact', hostPrefixText(host)]).trim() !== '';
}

function hostPrefixText(host: string): string {
  return `${host}/${familyOf(host) === '-6' ? 128 : 32}`;
}

/** Others may have removed it, and the kernel removes routes along with addresses: gone is gone. */
function withdraw(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!(error instanceof IpCommandError)) throw error;
  }
}

function familyOf(prefix: string): '-4' | '-6' {
  return prefix.includes(':') ? '-6' : '-4';
}
