import type { Socket } from 'node:net';
import { CHANNEL_END_TIMEOUT_MS } from './http2-limits.ts';

/** Closes our end of a channel when the packet thread, which is told by message or by the end of the bytes, has closed its end. */
export function awaitChannelEnd(socket: Socket): void {
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), CHANNEL_END_TIMEOUT_MS);
  socket.once('end', () => socket.destroy()).once('close', () => clearTimeout(timer));
}
