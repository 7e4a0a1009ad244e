import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ClientConnection } from '../../../data-plane/client/client-connection.ts';
import { QuicEndpoint } from '../../../data-plane/quic/quic-endpoint.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';
import { createAuthority } from '../../../deploy/local/certificate.ts';
import { issueTestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';

const TIMEOUT_MS = 10_000;

/** Connects over real sockets of this machine to an endpoint that only shakes hands; answers how it ended. */
async function connectAndEnd(url: string, ca: string, pem: { cert: string; key: string }): Promise<string> {
  const [near, far] = [UdpSocket.bind('127.0.0.1:0'), UdpSocket.bind('127.0.0.1:0')];
  const nothing = () => {};
  const server = new QuicEndpoint(
    { role: 'server', cert: pem.cert, key: pem.key, localAddress: far.localAddress.text, maxConnections: 10 },
    {
      onConnection: nothing,
      onHandshakeComplete: (id) => server.closeConnection(id, 0x100, 'go away'),
      onStreamData: nothing,
      onStreamReset: nothing,
      onDatagram: nothing,
      onClosed: nothing,
    },
    nothing,
  );
  const ends: string[] = [];
  const events = { onConfigured: nothing, onPacket: nothing, onEnded: (reason: string) => ends.push(reason) };
  const serverAddress = far.localAddress.text;
  const options = { url, token: 'token', ca, certificate: undefined, serverAddress, routes: undefined };
  const connection = new ClientConnection(options, near, events);
  try {
    await waitFor(
      () => {
        far.receive((bytes, offset, length, peer) => server.receive(bytes, offset, length, peer.text));
        server.processEvents();
        server.flush((bytes, offset, length, peer) => far.queue(bytes, offset, length, far.peers.fromText(peer)));
        far.flush();
        near.receive((bytes, offset, length, peer) => connection.receiveUdp(bytes, offset, length, peer));
        if (connection.timeoutMs() === 0) connection.onTimeout();
        connection.endTurn();
        return ends.length > 0;
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 5, what: 'the end of the attempt' },
    );
  } finally {
    near.close();
    far.close();
  }
  assert.equal(ends.length, 1);
  return ends[0] ?? '';
}

test('a certificate of another name or authority is refused in words that help', async () => {
  const pem = await issueTestCertificate(['node-a.test']);
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-other-'));
  const other = await createAuthority(directory, 'other');
  rmSync(directory, { recursive: true });
  const refused =
    /^the certificate of 127\.0\.0\.1:\d+ was refused: it must come from --ca and have the DNS name of --url$/;
  assert.match(await connectAndEnd('https://node-b.test/', pem.ca, pem), refused);
  assert.match(await connectAndEnd('https://node-a.test/', other.certificate, pem), refused);
});

test("the node's words are passed on when it closes", async () => {
  const pem = await issueTestCertificate(['node-a.test']);
  const end = await connectAndEnd('https://node-a.test/', pem.ca, pem);
  assert.equal(end, 'the connection closed: go away (code 0x100)');
});
