/* What one client, and all of them together, may cost the web thread. All are ours. */

/** Request streams of one connection at once: a client needs one. More are refused, and counted. */
export const MAX_STREAMS = 16;
/**
 * Of them as the client is told, which is what RFC 9113 6.5.2 recommends not to be below. Beyond it nghttp2 ends the connection and does
 * not say why, so it is not the limit that counts.
 */
export const MAX_ADVERTISED_STREAMS = 100;
/** TLS handshakes in flight: each costs a few ms of a core, and strangers can start as many as they like. */
export const MAX_HANDSHAKES = 256;
/** Of them from one remote party: one that begins many and says nothing must not keep out the others. */
export const MAX_HANDSHAKES_PER_PARTY = 32;
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** A connection that has neither a tunnel nor a request for one after this long is closed, as over HTTP/3. */
export const IDLE_CONNECTION_MS = 10_000;

/** Between two PINGs on a connection with a tunnel: they keep NATs open, and an answer shows that the client lives. */
export const PING_INTERVAL_MS = 10_000;
/** Silence after which a client is gone, as over HTTP/3. */
export const SILENCE_TIMEOUT_MS = 30_000;
/** How long the client may take to end its side of a stream after we ended ours. */
export const STREAM_END_TIMEOUT_MS = 2_000;
/** How long a client may take to read the rest of a tunnel that it ended: it need not read it at all. */
export const LAST_BYTES_TIMEOUT_MS = 5_000;
/** How long the packet thread may take to close its end of a channel. It does at once, unless it has failed. */
export const CHANNEL_END_TIMEOUT_MS = 5_000;

/**
 * What a client may send ahead of being read, which is what it can make us keep (RFC 9113 5.2), in bytes: what everybody gets until it is let
 * in, then of each stream, and of all streams of its connection. 4 MiB are 300 Mbit/s over 100 ms.
 */
export const STRANGER_WINDOW_BYTES = 65_535;
export const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
export const CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024;

/**
 * The longest header section that nghttp2 decodes, in bytes; it resets streams with more by itself, and tells nobody. Above
 * MAX_FIELD_SECTION_BYTES we answer 431 and count it, so this is above what a client can write out in the nine frames that nghttp2 takes;
 * more it can only make of what it has in the table of HPACK.
 */
export const MAX_DECODED_HEADER_BYTES = 256 * 1024;
/** Fields of one header section: as many as there can be in so many bytes, where each counts 32 at least (RFC 9113 6.5.2). */
export const MAX_HEADER_FIELDS = MAX_DECODED_HEADER_BYTES / 32;
