import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';

/** What a link does: passes all on, each piece so much later, nothing while it stays up, or is cut and refuses connections. */
export type LinkState = { readonly kind: 'open'; readonly delayMs: number } | { readonly kind: 'stalled' | 'cut' };

interface Piece {
  readonly bytes: Buffer;
  readonly dueAt: number;
}

/** A link between two processes on this machine that a test can delay, stall and cut. */
export class TcpProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #pipes = new Set<Pipe>();
  #state: LinkState = { kind: 'open', delayMs: 0 };
  #accepted = 0;
  #passed = 0;
  #cutAt: number | undefined;

  private constructor(server: Server, target: { readonly host: string; readonly port: number }) {
    this.#server = server;
    this.port = (server.address() as { port: number }).port;
    server.on('connection', (near: Socket) => {
      if (this.#state.kind === 'cut') {
        near.destroy();
        return;
      }
      this.#accepted++;
      const far = connectTcp({ ...target, allowHalfOpen: true });
      for (const [from, to, onPassed] of [
        [near, far, () => undefined],
        [far, near, (bytes: number) => this.#countPassed(bytes)],
      ] as const) {
        const pipe = new Pipe(from, to, () => this.#state, onPassed);
        this.#pipes.add(pipe);
        from.on('close', () => this.#pipes.delete(pipe));
      }
    });
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    return new TcpProxy(server, target);
  }

  /** In front of the server that a URL names. */
  static inFrontOf(url: string): Promise<TcpProxy> {
    const { hostname, port } = new URL(url);
    return TcpProxy.start({ host: hostname, port: Number(port) });
  }

  /** A URL of the target, by way of this link. */
  over(url: string): string {
    const there = new URL(url);
    there.hostname = '127.0.0.1';
    there.port = String(this.port);
    return there.href;
  }

  /** Connections that were not refused. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Connections, each half of which counts as half a one, rounded up. */
  get open(): number {
    return Math.ceil(this.#pipes.size / 2);
  }

  /** Bytes that came from the target and got through. */
  get passed(): number {
    return this.#passed;
  }

  /**
   * Cuts the connections there are, once, behind the piece with which so many more bytes from the target have got through; new ones
   * get through.
   */
  cutAfter(bytes: number): void {
    this.#cutAt = this.#passed + bytes;
  }

  set(state: LinkState): void {
    this.#state = state;
    for (const pipe of this.#pipes) {
      if (state.kind === 'cut') pipe.destroy();
      else pipe.pump();
    }
  }

  #countPassed(bytes: number): void {
    this.#passed += bytes;
    if (this.#cutAt === undefined || this.#passed < this.#cutAt) return;
    this.#cutAt = undefined;
    for (const pipe of this.#pipes) pipe.destroy();
  }

  close(): void {
    this.set({ kind: 'cut' });
    this.#server.close();
  }
}

/** One direction of a connection. */
class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #state: () => LinkState;
  readonly #onPassed: (bytes: number) => void;
  readonly #waiting: Piece[] = [];
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(from: Socket, to: Socket, state: () => LinkState, onPassed: (bytes: number) => void) {
    this.#from = from;
    this.#to = to;
    this.#state = state;
    this.#onPassed = onPassed;
    from.on('data', (bytes: Buffer) => {
      const current = state();
      const delayMs = current.kind === 'open' ? current.delayMs : 0;
      this.#waiting.push({ bytes, dueAt: performance.now() + delayMs });
      this.pump();
    });
    from.on('end', () => {
      this.#ended = true;
      this.pump();
    });
    // Who is at the other end sees the connection end, and says what that means.
    from.on('error', () => to.destroy());
    from.on('close', () => {
      clearTimeout(this.#timer);
      if (!this.#ended) to.destroy();
    });
  }

  pump(): void {
    if (this.#state().kind !== 'open') {
      // The sender notices by its full buffers, as on a real link.
      this.#from.pause();
      return;
    }
    this.#from.resume();
    const now = performance.now();
    while (this.#waiting[0] !== undefined && this.#waiting[0].dueAt <= now) {
      const { bytes } = this.#waiting.shift()!;
      this.#to.write(bytes);
      this.#onPassed(bytes.length);
    }
    const next = this.#waiting[0];
    clearTimeout(this.#timer);
    if (next !== undefined) this.#timer = setTimeout(() => this.pump(), next.dueAt - now);
    else if (this.#ended) this.#to.end();
  }

  destroy(): void {
    this.#from.destroy();
    this.#to.destroy();
  }
}
