import { accessSync, constants, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArguments } from '../../shared/config/parse-arguments.ts';
import {
  ConfigError,
  type HostPort,
  hostPort,
  integer,
  list,
  logLevel,
  NOT_SHOWN,
  optionalText,
  orUndefined,
  text,
} from '../../shared/config/parse-config.ts';
import { describeError } from '../../shared/errors.ts';
import { canonicalPrefix } from '../../shared/ip/prefix.ts';
import { buildConnectIpRequest, ConnectIpUrlError } from '../masque/build-connect-ip-request.ts';
import { tunName } from '../tun/tun-name-option.ts';
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
  readonly connectTo: HostPort;
  readonly transport: TransportChoice;
  readonly tun: string;
  readonly mtu: number;
  readonly tunOffload: 'auto' | 'off';
  /** Undefined: the node's advertisement decides. */
  readonly routes: readonly string[] | undefined;
  readonly statusFile: string | undefined;
  readonly logLevel: string;
}

/** A URL and a token may hold secrets; they are checked by themselves. */
const options = {
  url: optionalText('an https URL'),
  token: optionalText('a bearer token (RFC 6750)'),
  ca: text('a PEM file'),
  'connect-to': hostPort,
  transport: transportChoice,
  tun: tunName,
  mtu: integer(MIN_TUNNEL_MTU, MAX_TUNNEL_MTU),
  'tun-offload': tunOffload,
  routes: list('comma-separated prefixes, host bits zero, e.g. 10.0.0.0/8,fd00::/8', orUndefined(canonicalPrefix)),
  cert: text('a PEM file'),
  key: text('a PEM file'),
  'status-file': text('a file'),
  'log-level': logLevel,
} as const;

const DEFAULT_HTTPS_PORT = 443;

/** Reads arguments and environment; undefined when help was asked for. Throws ConfigError. */
export function parseClientConfig(
  args: readonly string[],
  env: { readonly MASQUE_VPN_TOKEN?: string },
): ClientConfig | undefined {
  const given = parseArguments(args, options, 'secret');
  if (given === undefined) return undefined;
  const { values } = given;
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
    connectTo: values['connect-to'] ?? addressOf(url),
    transport: values.transport ?? 'auto',
    tun: values.tun ?? 'masque%d',
    mtu: values.mtu ?? 1400,
    tunOffload: values['tun-offload'] ?? 'auto',
    routes: values.routes,
    statusFile: checkStatusFile(values['status-file']),
    logLevel: values['log-level'] ?? 'info',
  };
}

function parseUrl(value: string | undefined): URL {
  const expected = 'an https URL without user, password and fragment';
  if (!value || !URL.canParse(value)) throw new ConfigError('--url', value && NOT_SHOWN, expected);
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
    if (error.code === 'INVALID_TOKEN') throw new ConfigError('--token', NOT_SHOWN, 'a bearer token (RFC 6750)');
    throw new ConfigError('--url', NOT_SHOWN, `a URL of a CONNECT-IP proxy (${error.message})`);
  }
}

function addressOf(url: URL): HostPort {
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? DEFAULT_HTTPS_PORT : Number(url.port) };
}

/** That it can be written; what happens to it later is told in the log. */
function checkStatusFile(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    accessSync(dirname(path), constants.W_OK);
    return path;
  } catch (error) {
    throw new ConfigError('--status-file', path, `a file in a directory that can be written (${describeError(error)})`);
  }
}

function readPem(name: string, path: string | undefined): string {
  if (path === undefined) throw new ConfigError(name, undefined, 'a PEM file');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(name, path, `a PEM file that can be read (${describeError(error)})`);
  }
  if (!text.includes('-----BEGIN ')) throw new ConfigError(name, path, 'a PEM file');
  return text;
}
