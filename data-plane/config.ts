import { isIP } from 'node:net';
import {
  type ConfigOf,
  formatHostPort,
  hostPort,
  integer,
  list,
  logLevel,
  natsUrl,
  optionalText,
  orUndefined,
  text,
} from '../shared/config/parse-config.ts';
import { formatPrefix, parsePrefix, prefixCovers } from '../shared/ip/prefix.ts';
import { DEFAULT_SPOOL_MAX_BYTES, DEFAULT_SPOOL_MAX_EVENTS } from './telemetry/spool.ts';
import { tunName } from './tun/tun-name-option.ts';
import { tunOffload } from './tun/tun-offload-option.ts';
import { MAX_TUNNEL_MTU, MIN_TUNNEL_MTU } from './tunnel/tunnel-mtu.ts';

/** Ours: more threads than most machines have cores. A number of a shard is one byte between shards. */
export const MAX_SHARDS = 64;

/** What a node reads from its environment. */
export const nodeVariables = {
  NODE_ID: {
    help: "the node's name in events, metrics and SQL",
    ...text('1 to 63 of a-z, 0-9 and -, not "control"', /^(?!control$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
  },
  NATS_URL: {
    help: 'the NATS server, with user and password where it wants them',
    secret: true,
    ...natsUrl,
  },
  LISTEN: { help: 'the UDP address for tunnels over HTTP/3', fallback: '0.0.0.0:4433', ...listenAddress() },
  HTTP2_LISTEN: {
    help: 'the TCP address for tunnels over HTTP/2, where UDP is blocked; default: as LISTEN',
    fallback: '',
    ...http2Address(),
  },
  WEBTRANSPORT_LISTEN: {
    help: 'the TCP address for WebTransport sessions over HTTP/2; those over HTTP/3 come to LISTEN',
    fallback: 'off',
    ...optionalAddress(),
  },
  TLS_CERT: { help: 'the certificate chain, a PEM file', ...text('a path') },
  TLS_KEY: { help: "the certificate's key, a PEM file", ...text('a path') },
  CLIENT_CA: {
    help: 'the authority of client certificates, a PEM file; clients then need one besides their token',
    ...optionalText('a path'),
  },
  TUN_NAME: {
    help: 'the TUN interface',
    fallback: 'masque%d',
    ...tunName,
  },
  SHARDS: {
    help: 'packet threads, each with its own socket on LISTEN, TUN interface and address blocks',
    fallback: '1',
    ...integer(1, MAX_SHARDS),
  },
  STATE_DIR: {
    help: 'where the spool and what the node must remember are kept',
    ...text('a directory that not everybody can write; made where there is none'),
  },
  SPOOL_MAX_EVENTS: {
    help: 'events in the spool that are not committed yet; beyond it new tunnels get 503 and traffic windows wait',
    fallback: String(DEFAULT_SPOOL_MAX_EVENTS),
    ...integer(1_000, 100_000_000),
  },
  SPOOL_MAX_BYTES: {
    help: 'bytes of those events, about two thirds of what they take on the disk of STATE_DIR',
    fallback: String(DEFAULT_SPOOL_MAX_BYTES),
    ...integer(2 ** 20, 2 ** 40),
  },
  HTTP_LISTEN: { help: 'health and metrics', fallback: '127.0.0.1:9091', ...hostPort },
  TUNNEL_MTU: {
    help: 'the MTU inside the tunnels, bytes',
    fallback: '1400',
    ...integer(MIN_TUNNEL_MTU, MAX_TUNNEL_MTU),
  },
  TUN_OFFLOAD: {
    help: 'packets of one flow go through the TUN interface 64 KiB at a time, where the kernel can do that, or one by one',
    fallback: 'auto',
    ...tunOffload,
  },
  ADVERTISE_ROUTES: {
    help: 'the networks that clients may reach through this node; what they send elsewhere is dropped',
    fallback: '0.0.0.0/0,::/0',
    ...routes(),
  },
  AUTHORITIES: {
    help: 'the names that clients may ask for, with the port where it is not 443; others get 421; any where it is empty',
    fallback: '',
    ...list('comma-separated host or host:port, e.g. vpn.example,vpn.example:4433', parseAuthority),
  },
  MAX_CONNECTIONS: {
    help: 'QUIC connections at once, an equal share for each shard, and as many over TCP',
    fallback: '1000',
    ...integer(1, 10_000),
  },
  MAX_TUNNELS_PER_CLIENT: {
    help: 'tunnels that one client may have open on this node; more get 429',
    fallback: '16',
    ...integer(1, 10_000),
  },
  DRAIN_SECONDS: {
    help: 'how long tunnels live on after SIGTERM, for their clients to move; new ones are refused meanwhile',
    fallback: '1',
    ...integer(0, 3_600),
  },
  TRAFFIC_WINDOW_MS: { help: 'the length of a traffic window', fallback: '5000', ...integer(1_000, 60_000) },
  LOG_LEVEL: logLevel,
} as const;

export type NodeConfig = ConfigOf<typeof nodeVariables>;

function listenAddress() {
  return {
    expected: 'ip:port or [ipv6]:port',
    parse: (value: string) => {
      const parsed = hostPort.parse(value);
      return parsed && isIP(parsed.host) !== 0 ? formatHostPort(parsed) : undefined;
    },
  };
}

function parseAuthority(value: string): string | undefined {
  const authority = value.toLowerCase().replace(/:443$/, '');
  return URL.parse(`https://${authority}`)?.host === authority ? authority : undefined;
}

function http2Address() {
  const address = optionalAddress();
  return { ...address, parse: (value: string) => (value === '' ? value : address.parse(value)) };
}

function optionalAddress() {
  const address = listenAddress();
  return {
    expected: `${address.expected}, or off`,
    parse: (value: string) => (value === 'off' ? value : address.parse(value)),
  };
}

/** A network inside of another adds nothing, and routes that overlap must not be advertised (RFC 9484 4.7.3). */
function routes() {
  const prefixes = list('comma-separated prefixes, host bits zero, e.g. 10.0.0.0/8,fd00::/8', orUndefined(parsePrefix));
  return {
    ...prefixes,
    parse: (value: string) =>
      prefixes
        .parse(value)
        ?.filter(
          (route, i, all) =>
            !all.some((other, j) => j !== i && prefixCovers(other, route) && (other.length < route.length || j < i)),
        )
        .map(formatPrefix),
  };
}
