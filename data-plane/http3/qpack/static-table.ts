import type { FieldLine } from './field-line.ts';

/** RFC 9204 Appendix A, one name per row with its values from the given index on. The RFC splits some names in two runs. */
const RUNS: readonly (readonly [firstIndex: number, name: string, ...values: string[]])[] = [
  [0, ':authority', ''],
  [1, ':path', '/'],
  [2, 'age', '0'],
  [3, 'content-disposition', ''],
  [4, 'content-length', '0'],
  [5, 'cookie', ''],
  [6, 'date', ''],
  [7, 'etag', ''],
  [8, 'if-modified-since', ''],
  [9, 'if-none-match', ''],
  [10, 'last-modified', ''],
  [11, 'link', ''],
  [12, 'location', ''],
  [13, 'referer', ''],
  [14, 'set-cookie', ''],
  [15, ':method', 'CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT'],
  [22, ':scheme', 'http', 'https'],
  [24, ':status', '103', '200', '304', '404', '503'],
  [29, 'accept', '*/*', 'application/dns-message'],
  [31, 'accept-encoding', 'gzip, deflate, br'],
  [32, 'accept-ranges', 'bytes'],
  [33, 'access-control-allow-headers', 'cache-control', 'content-type'],
  [35, 'access-control-allow-origin', '*'],
  [36, 'cache-control', 'max-age=0', 'max-age=2592000', 'max-age=604800', 'no-cache', 'no-store'],
  [41, 'cache-control', 'public, max-age=31536000'],
  [42, 'content-encoding', 'br', 'gzip'],
  [44, 'content-type', 'application/dns-message', 'application/javascript', 'application/json'],
  [47, 'content-type', 'application/x-www-form-urlencoded', 'image/gif', 'image/jpeg', 'image/png', 'text/css'],
  [52, 'content-type', 'text/html; charset=utf-8', 'text/plain', 'text/plain;charset=utf-8'],
  [55, 'range', 'bytes=0-'],
  [56, 'strict-transport-security', 'max-age=31536000', 'max-age=31536000; includesubdomains'],
  [58, 'strict-transport-security', 'max-age=31536000; includesubdomains; preload'],
  [59, 'vary', 'accept-encoding', 'origin'],
  [61, 'x-content-type-options', 'nosniff'],
  [62, 'x-xss-protection', '1; mode=block'],
  [63, ':status', '100', '204', '206', '302', '400', '403', '421', '425', '500'],
  [72, 'accept-language', ''],
  [73, 'access-control-allow-credentials', 'FALSE', 'TRUE'],
  [75, 'access-control-allow-headers', '*'],
  [76, 'access-control-allow-methods', 'get', 'get, post, options', 'options'],
  [79, 'access-control-expose-headers', 'content-length'],
  [80, 'access-control-request-headers', 'content-type'],
  [81, 'access-control-request-method', 'get', 'post'],
  [83, 'alt-svc', 'clear'],
  [84, 'authorization', ''],
  [85, 'content-security-policy', "script-src 'none'; object-src 'none'; base-uri 'none'"],
  [86, 'early-data', '1'],
  [87, 'expect-ct', ''],
  [88, 'forwarded', ''],
  [89, 'if-range', ''],
  [90, 'origin', ''],
  [91, 'purpose', 'prefetch'],
  [92, 'server', ''],
  [93, 'timing-allow-origin', '*'],
  [94, 'upgrade-insecure-requests', '1'],
  [95, 'user-agent', ''],
  [96, 'x-forwarded-for', ''],
  [97, 'x-frame-options', 'deny', 'sameorigin'],
];

const TABLE: FieldLine[] = [];
for (const [firstIndex, name, ...values] of RUNS) {
  for (const [i, value] of values.entries()) TABLE[firstIndex + i] = [name, value];
}

/** The QPACK static table: 99 field lines, by index (RFC 9204 Appendix A). */
export const STATIC_TABLE: readonly FieldLine[] = TABLE;

const INDEX_BY_NAME = new Map<string, number>();
const INDEX_BY_LINE = new Map<string, number>();
for (const [index, [name, value]] of STATIC_TABLE.entries()) {
  if (!INDEX_BY_NAME.has(name)) INDEX_BY_NAME.set(name, index);
  INDEX_BY_LINE.set(`${name}\0${value}`, index);
}

/** The index of the first entry with this name, or undefined. */
export function staticNameIndex(name: string): number | undefined {
  return INDEX_BY_NAME.get(name);
}

/** The index of the entry with this name and value, or undefined. */
export function staticLineIndex(name: string, value: string): number | undefined {
  return INDEX_BY_LINE.get(`${name}\0${value}`);
}
