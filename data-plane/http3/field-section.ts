import { H3_MESSAGE_ERROR, Http3StreamError, Http3UsageError } from './error-codes.ts';
import type { FieldLine } from './qpack/field-line.ts';

export interface RequestFields {
  readonly method: string;
  /** Absent in a plain CONNECT only. */
  readonly scheme?: string;
  readonly authority?: string;
  /** The raw path with its query, still percent-encoded. It can carry a token: never log it. Absent in a plain CONNECT only. */
  readonly path?: string;
  /** The `:protocol` of an extended CONNECT (RFC 9220). */
  readonly protocol?: string;
  /** All other fields in their order, names in lowercase. */
  readonly fields: readonly FieldLine[];
}

export interface ResponseFields {
  readonly status: number;
  readonly fields: readonly FieldLine[];
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that a field value must not have
const FORBIDDEN_IN_VALUE = /[\0-\x08\x0a-\x1f\x7f]/;

/** Fields about the connection itself, which HTTP/3 does not have (RFC 9114 4.2). */
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

/** Checks a decoded request (RFC 9114 4.1.2, 4.3.1, 4.4; RFC 8441 4). Throws H3_MESSAGE_ERROR. */
export function parseRequestFields(lines: readonly FieldLine[]): RequestFields {
  const { pseudo, fields } = split(lines, [':method', ':scheme', ':authority', ':path', ':protocol']);
  const { method, scheme, authority, path, protocol } = pseudo;
  if (!method) throw malformed('a request has no :method');
  if (protocol !== undefined && method !== 'CONNECT')
    throw malformed(':protocol comes with a method other than CONNECT');

  if (method === 'CONNECT' && protocol === undefined) {
    if (scheme !== undefined || path !== undefined) throw malformed('a plain CONNECT has :scheme or :path');
    if (!authority) throw malformed('a plain CONNECT has no :authority');
  } else {
    if (!scheme) throw malformed('a request has no :scheme');
    if (!path) throw malformed('a request has no :path');
    if (protocol === '') throw malformed(':protocol is empty');
    if (protocol !== undefined && !authority) throw malformed('an extended CONNECT has no :authority');
  }
  checkHost(authority, fields);
  return {
    method,
    ...(scheme !== undefined && { scheme }),
    ...(authority !== undefined && { authority }),
    ...(path !== undefined && { path }),
    ...(protocol !== undefined && { protocol }),
    fields,
  };
}

/** Checks a decoded response (RFC 9114 4.1.2, 4.3.2, 4.5). Throws H3_MESSAGE_ERROR. */
export function parseResponseFields(lines: readonly FieldLine[]): ResponseFields {
  const { pseudo, fields } = split(lines, [':status']);
  const { status } = pseudo;
  if (status === undefined || !/^[1-9]\d\d$/.test(status)) throw malformed('a response has no three-digit :status');
  if (status === '101') throw malformed('status 101 does not exist in HTTP/3');
  return { status: Number(status), fields };
}

/** Checks decoded trailers (RFC 9114 4.3). Throws H3_MESSAGE_ERROR. */
export function checkTrailers(lines: readonly FieldLine[]): void {
  split(lines, []);
}

/** The bytes of content that a message announces, or undefined. Throws H3_MESSAGE_ERROR for a bad or ambiguous value. */
export function contentLength(fields: readonly FieldLine[]): number | undefined {
  let length: string | undefined;
  for (const [name, value] of fields) {
    if (name !== 'content-length') continue;
    if (!/^\d{1,15}$/.test(value)) throw malformed('content-length is not a decimal number');
    if (length !== undefined && length !== value) throw malformed('content-length comes with two values');
    length = value;
  }
  return length === undefined ? undefined : Number(length);
}

/** The lines of a request, pseudo-headers first. Throws Http3UsageError H3_INVALID_FIELD for what no peer would take. */
export function requestLines(request: RequestFields): FieldLine[] {
  const lines: FieldLine[] = [[':method', request.method]];
  if (request.protocol !== undefined) lines.push([':protocol', request.protocol]);
  if (request.scheme !== undefined) lines.push([':scheme', request.scheme]);
  if (request.authority !== undefined) lines.push([':authority', request.authority]);
  if (request.path !== undefined) lines.push([':path', request.path]);
  lines.push(...request.fields);
  return sendable(lines, parseRequestFields);
}

/** The lines of a response, `:status` first. Throws Http3UsageError H3_INVALID_FIELD for what no peer would take. */
export function responseLines(status: number, fields: readonly FieldLine[]): FieldLine[] {
  return sendable([[':status', String(status)], ...fields], parseResponseFields);
}

function sendable(lines: FieldLine[], check: (lines: readonly FieldLine[]) => unknown): FieldLine[] {
  try {
    for (const [name, value] of lines) {
      if (/[^\0-\xff]/.test(value)) throw malformed(`${name} has a character outside ISO 8859-1`);
    }
    check(lines);
  } catch (error) {
    if (error instanceof Http3StreamError) throw new Http3UsageError('H3_INVALID_FIELD', error.message);
    throw error;
  }
  return lines;
}

type PseudoName = ':method' | ':scheme' | ':authority' | ':path' | ':protocol' | ':status';
type PseudoFields = { [Name in PseudoName as Name extends `:${infer Bare}` ? Bare : never]?: string };

function split(
  lines: readonly FieldLine[],
  allowed: readonly PseudoName[],
): { pseudo: PseudoFields; fields: FieldLine[] } {
  const pseudo: Record<string, string> = {};
  const fields: FieldLine[] = [];
  for (const line of lines) {
    const [name, value] = line;
    // Names and values of the peer stay out of the messages: they can be secrets.
    if (FORBIDDEN_IN_VALUE.test(value)) throw malformed('a field value has a control character');
    if (name.startsWith(':')) {
      if (!allowed.some((known) => known === name)) throw malformed('a pseudo-header field is not defined here');
      if (fields.length > 0) throw malformed(`${name} comes after a regular field`);
      const bare = name.slice(1);
      if (bare in pseudo) throw malformed(`${name} comes twice`);
      pseudo[bare] = value;
      continue;
    }
    if (!TOKEN.test(name)) throw malformed('a field name is not a lowercase token');
    if (CONNECTION_SPECIFIC.has(name)) throw malformed(`${name} is specific to a connection`);
    if (name === 'te' && value.toLowerCase() !== 'trailers') throw malformed('te is not "trailers"');
    fields.push(line);
  }
  return { pseudo, fields };
}

function checkHost(authority: string | undefined, fields: readonly FieldLine[]): void {
  const hosts = fields.filter(([name]) => name === 'host');
  if (hosts.length > 1) throw malformed('host comes twice');
  const host = hosts[0]?.[1];
  if (host !== undefined && authority !== undefined && host !== authority)
    throw malformed('host and :authority differ');
  if (authority === '' || host === '') throw malformed(':authority or host is empty');
}

function malformed(why: string): Http3StreamError {
  return new Http3StreamError(H3_MESSAGE_ERROR, why);
}
