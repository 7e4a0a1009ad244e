import { randomBytes } from 'node:crypto';
import type { ServerHttp2Stream, Settings } from 'node:http2';
import type { Http2Server, WebTransportSession } from '@fails-components/webtransport';
import { GuardedStream } from './guarded-stream.ts';
import type { LoadedPackage } from './load-package.ts';
import { SessionCapsules } from './session-capsules.ts';

/** Bytes of its stream that a client may be ahead of us (ours): capsules of control are small. */
const WINDOW_BYTES = 16_384;
const MAX_WINDOW_BYTES = 65_536;
const MAX_STREAMS = 1;
/** The one path that the package knows: which paths are served is decided before. */
const PATH = '/';

/** What an HTTP/2 server that serves sessions must have among its settings (draft-ietf-webtrans-http2 4.2, 10.1). */
export const SESSION_SETTINGS: Settings = {
  enableConnectProtocol: true,
  customSettings: {
    11105: WINDOW_BYTES,
    11106: WINDOW_BYTES,
    11107: WINDOW_BYTES,
    11109: MAX_STREAMS,
  },
};
/** The settings that it must let clients have. */
export const SESSION_REMOTE_SETTINGS = [0x2b61, 0x2b62, 0x2b63, 0x2b64, 0x2b65];

/** What the package's server does with a request that was accepted. It is not public: the package's version is exact for that. */
interface RequestFinisher {
  finishSessionRequest(request: {
    readonly session: GuardedStream;
    readonly status: number;
    readonly protocol: 'capsule';
    readonly path: string;
    readonly header: object;
    readonly userData: Opening;
    readonly transportPrivate: object;
  }): void;
}

interface Opening {
  open: (session: WebTransportSession) => void;
}

/**
 * Opens WebTransport sessions on streams of an HTTP/2 server of ours. The package's own server never listens: it has no limits of
 * connections, streams and silence, cannot answer a refusal with fields, and would need a port of its own.
 */
export class SessionOpener {
  readonly #server: Http2Server;
  readonly #finisher: RequestFinisher;

  private constructor(server: Http2Server, finisher: RequestFinisher) {
    this.#server = server;
    this.#finisher = finisher;
  }

  /** `cert` and `key`, PEM, are what the package insists on. */
  static async create({ webTransport }: LoadedPackage, cert: string, key: string): Promise<SessionOpener> {
    const server = new webTransport.Http2Server({
      port: 0,
      host: '127.0.0.1',
      secret: randomBytes(16).toString('hex'),
      cert,
      privKey: key,
      initialStreamFlowControlWindow: WINDOW_BYTES,
      initialSessionFlowControlWindow: WINDOW_BYTES,
      streamFlowControlWindowSizeLimit: MAX_WINDOW_BYTES,
      sessionFlowControlWindowSizeLimit: MAX_WINDOW_BYTES,
      initialBidirectionalStreams: MAX_STREAMS,
    });
    await server.createTransportInt();
    const opener = new SessionOpener(server, server.transportInt as RequestFinisher);
    void opener.#take();
    return opener;
  }

  /** Answers a request with 200 and gives its session as capsules. Throws when the client has left. */
  async open(stream: ServerHttp2Stream, streamTimeoutMs?: number): Promise<SessionCapsules> {
    const opened = Promise.withResolvers<SessionCapsules>();
    const guard = new GuardedStream(stream);
    this.#finisher.finishSessionRequest({
      session: guard,
      status: 200,
      protocol: 'capsule',
      path: PATH,
      header: {},
      userData: {
        open: (session) => {
          const capsules = new SessionCapsules(session, guard, streamTimeoutMs);
          guard.start({
            onClientClose: () => capsules.endFromClient(),
            onError: (error) => capsules.destroy(error),
          });
          opened.resolve(capsules);
        },
      },
      transportPrivate: {},
    });
    return opened.promise;
  }

  async #take(): Promise<void> {
    for await (const session of this.#server.sessionStream(PATH, { noAutoPaths: true })) {
      (session.userData as Opening).open(session);
    }
  }
}
