import type { Logger } from '../shared/log/logger.ts';
import type { NodeConfig } from './config.ts';
import type { TlsIdentity } from './tls/tls-identity.ts';
import { WebGateway, type WebGatewayOptions } from './web-thread/web-gateway.ts';
import type { WebThreadOptions } from './web-thread/web-messages.ts';
import { type WebTransportCarrier, webTransportCarriers } from './webtransport/webtransport-carriers.ts';

export interface WebServicesOptions extends Pick<WebGatewayOptions, 'onFailed' | 'post'> {
  readonly config: NodeConfig;
  /** As it is now: services start one after the other. */
  readonly identity: () => TlsIdentity;
  readonly log: Logger;
  /** A client asks for a tunnel; the answer goes to the gateway. */
  readonly onRequest: (request: Parameters<WebGatewayOptions['onRequest']>[0], gateway: WebGateway) => void;
}

/** What a node serves over TCP: CONNECT-IP over HTTP/2, and WebTransport. Each has a thread of its own, so that one that fails costs only its own clients. */
export class WebServices {
  readonly #options: WebServicesOptions;
  /** One for each service that is not off. */
  readonly #gateways: WebGateway[] = [];
  #carriers: readonly WebTransportCarrier[] = [];

  constructor(options: WebServicesOptions) {
    this.#options = options;
  }

  get states() {
    return this.#gateways.map(({ state }) => state);
  }

  /** What carries WebTransport sessions. */
  get carriers(): readonly WebTransportCarrier[] {
    return this.#carriers;
  }

  /** Resolves with the TCP addresses, or 'off'; `listen` is where the node has HTTP/3. Rejects when one is not to be had. */
  async start(listen: string): Promise<{ http2Listen: string; webTransportListen: string }> {
    const { HTTP2_LISTEN, WEBTRANSPORT_LISTEN } = this.#options.config;
    // TCP beside the UDP of HTTP/3, on the same port unless the configuration says otherwise.
    const http2Listen = await this.#start('connect-ip', HTTP2_LISTEN || listen);
    const webTransportListen = await this.#start('webtransport', WEBTRANSPORT_LISTEN);
    if (webTransportListen === 'off') this.#webTransportLoaded(null);
    return { http2Listen, webTransportListen };
  }

  /** A tunnel has ended, of whatever thread. */
  closed(connectionId: string): void {
    for (const gateway of this.#gateways) gateway.closed(connectionId);
  }

  /** The packet thread ended a tunnel by an error. */
  abort(connectionId: string, errorCode: number): void {
    for (const gateway of this.#gateways) gateway.abort(connectionId, errorCode);
  }

  /** New connections get this identity, those that are there keep theirs. */
  renew(identity: TlsIdentity): void {
    for (const gateway of this.#gateways) gateway.renew(identity);
  }

  /** No new connections and requests: clients are told. Tunnels live on. */
  announceDrain(): void {
    for (const gateway of this.#gateways) gateway.announceDrain();
  }

  /** No new connections; resolves when all have closed, or that takes too long. */
  async drain(): Promise<void> {
    await Promise.all(this.#gateways.map((gateway) => gateway.drain()));
  }

  stop(): void {
    for (const gateway of this.#gateways) gateway.stop();
  }

  async #start(service: WebThreadOptions['service'], listen: string): Promise<string> {
    if (listen === 'off') return listen;
    const { config, identity, log, onRequest, onFailed, post } = this.#options;
    const { MAX_CONNECTIONS: maxConnections, AUTHORITIES: authorities } = config;
    const gateway: WebGateway = new WebGateway({
      thread: { service, listen, identity: identity(), authorities, maxConnections },
      log,
      onRequest: (request) => onRequest(request, gateway),
      onFailed,
      onWebTransportLoaded: (http3Problem) => this.#webTransportLoaded(http3Problem),
      post,
    });
    this.#gateways.push(gateway);
    return gateway.start();
  }

  #webTransportLoaded(packageProblem: string | null): void {
    const { LISTEN, WEBTRANSPORT_LISTEN } = this.#options.config;
    this.#carriers = webTransportCarriers(LISTEN, WEBTRANSPORT_LISTEN, packageProblem);
    this.#options.log.info({ carriers: this.#carriers }, 'what carries WebTransport sessions');
  }
}
