import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ConfigError, hostPort, integer, list, logLevel, orUndefined } from '../../shared/config/parse-config.ts';
import { errorCode } from '../../shared/errors.ts';
import { canonicalPrefix } from '../../shared/ip/prefix.ts';
import { buildConnectIpRequest, ConnectIpUrlError } from '../masque/build-connect-ip-request.ts';
import { tunOffload } from '../tun/tun-offload-option.ts';
import { MAX_TUNNEL_MTU, MIN_TUNNEL_MTU } from '../tunnel/tunnel-mtu.ts';
import { type TransportChoice, transportChoice } from './transport-race.ts';

export const CLIENT_USAGE = `usage: node data-plane/client/main.ts --url URL --ca FILE [options]

The reference client of masque-vpn: one TUN device, one CONNECT-IP tunnel (RFC 9484).

  --url URL              the node, e.g. https://node-a.example:4433/.well-known/masque/ip/*/*/
  --token TOKEN          the bearer token (better: the variable MASQUE_VPN_TOKEN, which other users cannot see)
  --ca FILE              PEM of the authority that the node's certificate must come from
  --connect-to HOST:PORT go there instead of to the URL's host and port; the certificate must still fit the URL
  --transport WHICH      auto: HTTP/3, or HTTP/2 where UDP does not get through; http3 or http2: that one only (default auto)
  --tun NAME             the TUN interface (default masque%d)
  --mtu BYTES            its MTU, ${MIN_TUNNEL_MTU} to ${MAX_TUNNEL_MTU} (default 1400)
  --tun-offload MODE     auto: packets of one flow go through the TUN interface 64 KiB at a time, where the kernel can; off: one by one
  --routes PREFIXES      comma-separated networks to send through the tunnel (default: what the node advertises)
  --cert FILE --key FILE our own certificate, where the node wants one
  --status-file FILE     JSON of the tunnel's state, rewritten every second
  --log-level LEVEL      trace, debug, info, warn, error or silent (default info)
`;

export interface ClientConfig {
  readonly url: URL;
  readonly token: string;
  /** PEM texts. */
  readonly ca: string;
  readonly certificate: { readonly cert: string; readonly key: string } | undefined;
  readonly connectTo: { readonly host: string; readonly port: number };
  readonly transport: TransportChoice;
  readonly tun: string;
  readonly mtu: number;
  readonly tunOffload: 'auto' | 'off';
  /** Undefined: the node's advertisement decides. */
  readonly routes: readonly string[] | undefined;
  readonly statusFile: string | undefined;
  readonly logLevel: string;
}

const options = {
  url: { type: 'string' },
  token: { type: 'string' },
  ca: { type: 'string' },
  'connect-to': { type: 'string' },
  transport: { type: 'string', default: 'auto' },
  tun: { type: 'string', default: 'masque%d' },
  mtu: { type: 'string', default: '1400' },
  'tun-offload': { type: 'string', default: 'auto' },
  routes: { type: 'string' },
  cert: { type: 'string' },
  key: { type: 'string' },
  'status-file': { type: 'string' },
  'log-level': { type: 'string', default: 'info' },
  help: { type: 'boolean' },
} as const;

const DEFAULT_HTTPS_PORT = 443;

/** Reads arguments and environment; undefined when help was asked for. Throws ConfigError. */
export function parseClientConfig(
  args: string[],
  env: { readonly MASQUE_VPN_TOKEN?: string },
): ClientConfig | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const url = parseUrl(values.url);
  const token = values.token ?? env.MASQUE_VPN_TOKEN;
  if (!token) throw new ConfigError('--token', undefined, 'the token, here or in MASQUE_VPN_TOKEN');
  checkRequest(url, token);
  if ((values.cert === undefined) !== (values.key === undefined)) {
    throw new ConfigError(values.cert === undefined ? '--cert' : '--key', undefined, '--cert and --key together');
  }
  const { cert, key } = values;
  return {
    url,
    token,
    ca: readPem('--ca', values.ca),
    certificate: cert === undefined ? undefined : { cert: readPem('--cert', cert), key: readPem('--key', key) },
    connectTo: parseConnectTo(values['connect-to'], url),
    transport: accept('--transport', values.transport, transportChoice.expected, transportChoice.parse),
    tun: accept('--tun', values.tun, 'an interface name of up to 15 characters', (v) =>
      /^[^\s/:]{1,15}$/.test(v) ? v : undefined,
    ),
    mtu: accept(
      '--mtu',
      values.mtu,
      integer(MIN_TUNNEL_MTU, MAX_TUNNEL_MTU).expected,
      integer(MIN_TUNNEL_MTU, MAX_TUNNEL_MTU).parse,
    ),
    tunOffload: accept('--tun-offload', values['tun-offload'], tunOffload.expected, tunOffload.parse),
    routes: values.routes === undefined ? undefined : parseRoutes(values.routes),
    statusFile: values['status-file'],
    logLevel: accept('--log-level', values['log-level'], logLevel.expected, logLevel.parse),
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options, strict: true }).values;
  } catch (error) {
    throw new ConfigError(
      'arguments',
      args
        .filter((arg) => arg.startsWith('--'))
        .map((arg) => arg.split('=')[0])
        .join(' '),
      `those of --help (${argumentProblem(error)})`,
    );
  }
}

/** A word without its option can be a secret, so Node's message, which quotes it, is not for the screen. */
function argumentProblem(error: unknown): string {
  if (errorCode(error) === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') return 'there is a word that belongs to no option';
  return error instanceof Error ? error.message : '';
}

function accept<T>(name: string, value: string, expected: string, parseValue: (value: string) => T | undefined): T {
  const parsed = parseValue(value);
  if (parsed === undefined) throw new ConfigError(name, value, expected);
  return parsed;
}

function parseUrl(value: string | undefined): URL {
  const expected = 'an https URL without user, password and fragment';
  if (value === undefined || !URL.canParse(value)) throw new ConfigError('--url', undefined, expected);
  const url = new URL(value);
  if (url.protocol !== 'https:' || url.username !== '' || url.hash !== '') {
    throw new ConfigError('--url', `${url.protocol}//${url.host}${url.pathname}`, expected);
  }
  return url;
}

/** What would make no request must not fail at every attempt to connect. */
function checkRequest(url: URL, token: string): void {
  try {
    buildConnectIpRequest(url.href, token);
  } catch (error) {
    if (!(error instanceof ConnectIpUrlError)) throw error;
    if (error.code === 'INVALID_TOKEN') throw new ConfigError('--token', undefined, 'a bearer token (RFC 6750)');
    throw new ConfigError('--url', undefined, `a URL of a CONNECT-IP proxy (${error.message})`);
  }
}

function parseConnectTo(value: string | undefined, url: URL): { host: string; port: number } {
  if (value !== undefined) return accept('--connect-to', value, hostPort.expected, hostPort.parse);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? DEFAULT_HTTPS_PORT : Number(url.port) };
}

function parseRoutes(value: string): readonly string[] {
  const routes = list('comma-separated prefixes, e.g. 10.0.0.0/8,fd00::/8', orUndefined(canonicalPrefix));
  return accept('--routes', value, routes.expected, routes.parse);
}

function readPem(name: string, path: string | undefined): string {
  if (path === undefined) throw new ConfigError(name, undefined, 'a PEM file');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(name, path, `a PEM file that can be read (${error instanceof Error ? error.message : ''})`);
  }
  if (!text.includes('-----BEGIN ')) throw new ConfigError(name, path, 'a PEM file');
  return text;
}
