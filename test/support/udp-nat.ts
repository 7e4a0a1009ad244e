import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { CodedError } from '../../shared/errors.ts';

/** Room for the bursts of a download, bytes; the kernel may give less. */
const SOCKET_BUFFER_BYTES = 4 * 2 ** 20;

/**
 * A NAT between one client and one server: the client sends to it, the server sees an address and port of its own, which can change at
 * any time, as it does when a NAT forgets a mapping or a phone goes from one network to another.
 */
export class UdpNat {
  /** Packets of the client that went on. */
  fromClient = 0;
  /** Packets of the server that came to the mapping of now. */
  fromServer = 0;
  readonly #server: { readonly host: string; readonly port: number };
  readonly #inside: Socket;
  #outside: Socket | undefined;
  #client: AddressInfo | undefined;

  private constructor(inside: Socket, server: string) {
    const [host = '', port = ''] = server.split(':');
    this.#server = { host, port: Number(port) };
    this.#inside = inside;
    inside.on('message', (packet, from) => {
      this.#client = { address: from.address, port: from.port, family: from.family };
      this.fromClient++;
      this.#outside?.send(packet, this.#server.port, this.#server.host);
    });
  }

  /** Listens for the client at an IPv4 address and sends on, from there, to the server at `ip:port`. */
  static async start(address: string, server: string): Promise<UdpNat> {
    const nat = new UdpNat(await bound(address), server);
    await nat.rebind(address);
    return nat;
  }

  /** Where the client sends to. */
  get address(): string {
    const { address, port } = this.#inside.address();
    return `${address}:${port}`;
  }

  /** Where the server sees the client. */
  get mapping(): string {
    if (this.#outside === undefined) throw new CodedError('NAT_CLOSED', 'the NAT has no mapping');
    const { address, port } = this.#outside.address();
    return `${address}:${port}`;
  }

  /** From now on the client is seen at another port of this address; what comes to the old one is lost. */
  async rebind(address: string): Promise<void> {
    const next = await bound(address);
    this.#outside?.close();
    this.#outside = next;
    this.fromServer = 0;
    next.on('message', (packet) => {
      this.fromServer++;
      if (this.#client !== undefined) this.#inside.send(packet, this.#client.port, this.#client.address);
    });
  }

  close(): void {
    this.#inside.close();
    this.#outside?.close();
  }
}

async function bound(address: string): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: SOCKET_BUFFER_BYTES });
  socket.bind(0, address);
  await once(socket, 'listening');
  return socket;
}
