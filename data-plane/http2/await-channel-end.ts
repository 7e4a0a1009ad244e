import type { Socket } from 'node:net';
import { destroyLater } from './destroy-later.ts';
import { CHANNEL_END_TIMEOUT_MS } from './http2-limits.ts';

/** Closes our end of a channel when the packet thread, which is told by message or by the end of the bytes, has closed its end. */
export function awaitChannelEnd(socket: Socket): void {
  socket.resume();
  socket.once('end', () => socket.destroy());
  destroyLater(socket, CHANNEL_END_TIMEOUT_MS);
}
