import { once } from 'node:events';
import { type ClientHttp2Stream, connect, createSecureServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { loadWebTransport } from '../../../data-plane/webtransport/load-package.ts';
import type { SessionCapsules } from '../../../data-plane/webtransport/session-capsules.ts';
import {
  SESSION_REMOTE_SETTINGS,
  SESSION_SETTINGS,
  SessionOpener,
} from '../../../data-plane/webtransport/session-opener.ts';
import { issueTestCertificate } from '../../support/test-certificate.ts';

export interface SessionHost {
  readonly port: number;
  readonly cert: string;
  readonly ca: string;
  /** The next session that a client opens. */
  nextSession(): Promise<SessionCapsules>;
}

/** An HTTP/2 server on which every request becomes a session. */
export async function startSessionHost(t: TestContext, streamTimeoutMs?: number): Promise<SessionHost> {
  const { cert, key, ca } = await issueTestCertificate(['127.0.0.1'], 10);
  const opener = await SessionOpener.create(await loadWebTransport(), cert, key);
  const server = createSecureServer({
    cert,
    key,
    settings: SESSION_SETTINGS,
    remoteCustomSettings: SESSION_REMOTE_SETTINGS,
  });
  const sessions: SessionCapsules[] = [];
  server.on('stream', async (stream: ServerHttp2Stream) => {
    const session = await opener.open(stream, streamTimeoutMs);
    session.on('error', () => {});
    sessions.push(session);
    server.emit('session opened');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return {
    port: (server.address() as AddressInfo).port,
    cert,
    ca,
    nextSession: async () => {
      if (sessions.length === 0) await once(server, 'session opened');
      return sessions.shift()!;
    },
  };
}

/** A session without the package: the test writes its capsules. */
export async function openRawSession(t: TestContext, { port, ca }: SessionHost): Promise<ClientHttp2Stream> {
  const connection = connect(`https://127.0.0.1:${port}`, { ca });
  t.after(() => connection.destroy());
  connection.on('error', () => {});
  await once(connection, 'remoteSettings');
  const stream = connection.request({ ':method': 'CONNECT', ':protocol': 'webtransport', ':path': '/' });
  stream.on('error', () => {});
  await once(stream, 'response');
  return stream;
}
