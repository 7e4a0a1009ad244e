import type { Socket } from 'node:net';
import { NodeTransport } from 'nats/lib/src/node_transport.js';

/**
 * The client library gives an attempt to connect up after its timeout, but leaves its socket. When a server that stood still answers
 * after all, nobody speaks to it, so the server ends the connection, and the library takes that for the end of the one that works: it
 * connects again, reads both from then on as if they were one, and messages become a mix of two. Call it once, before any connection.
 */
export function endAbandonedDials(): void {
  const { close, peekInfo } = NodeTransport.prototype;
  const abandoned = new WeakSet<NodeTransport>();
  const destroySocket = (transport: { readonly socket: Socket | undefined }) => transport.socket?.destroy();
  NodeTransport.prototype.close = async function (this: NodeTransport, error?: Error): Promise<void> {
    if (!this.connected) {
      abandoned.add(this);
      destroySocket(this);
    }
    await close.call(this, error);
  };
  // The first step once there is a socket.
  NodeTransport.prototype.peekInfo = function (this: NodeTransport): ReturnType<typeof peekInfo> {
    const info = peekInfo.call(this);
    if (abandoned.has(this)) destroySocket(this);
    return info;
  };
}
