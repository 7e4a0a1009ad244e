/** Decodes each percent-escape once (RFC 3986 2.1). Undefined for a broken escape or bytes that are not UTF-8. */
export function percentDecode(raw: string): string | undefined {
  try {
    return decodeURIComponent(raw);
  } catch {
    return undefined;
  }
}
