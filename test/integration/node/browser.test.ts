import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import { openTunnel as open } from '../../../data-plane/webtransport/browser-client.js';
import { readAddress, readEcho } from '../../../data-plane/webtransport/browser-packet.js';
import { createAuthority, issueServerCertificate } from '../../../deploy/local/certificate.ts';
import { scrape } from '../../../deploy/local/http-client.ts';
import { hasIpv6 } from '../../../deploy/local/netns-topology.ts';
import { formatAddress, parseAddress } from '../../../shared/ip/address.ts';
import { openPage } from '../../support/browser-page.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { certificateHash, clientOptions, WebTransport } from '../../support/webtransport-client.ts';
import { SESSION_LISTEN, SESSION_PORT } from '../../support/webtransport-peer.ts';
import { enrol, startOneNode } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('chromium', 'chromium');
const TIMEOUT_MS = 20_000;
/** What browsers allow a certificate that they take by its hash is 14. */
const VALID_DAYS = 10;
/**
 * What Chromium says now and then instead of why a session ended. Its network process sends the reason through one pipe and ends
 * another at once; they have no order, and the page may see that end first.
 */
const LOST = 'WebTransportError: Connection lost.';
/** So that it has read it once. */
const REVOCATIONS = 3;

test('a page in a browser exchanges packets with the node and hosts behind it over HTTP/3, and its module in Node over HTTP/2', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const authority = await createAuthority(join(directory, 'browser-pki'));
  const issued = await issueServerCertificate(authority, directory, 'browser', ['localhost'], 'server', VALID_DAYS);
  const { certificateFile: TLS_CERT, keyFile: TLS_KEY } = issued;
  const routes = { ADVERTISE_ROUTES: '0.0.0.0/0,::/0', WEBTRANSPORT_LISTEN: SESSION_LISTEN };
  const nodeEnv = { TLS_CERT, TLS_KEY, TRAFFIC_WINDOW_MS: '1000', ...routes };
  const cluster = await startOneNode({ directory: join(directory, 'cluster'), clients: [], nodeEnv });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const token = await enrol(cluster, 'page');
  const page = await openPage(t);
  const url = `https://${new URL(node.url).host}/.well-known/masque/ip/*/*/`;
  const hash = [...certificateHash(readFileSync(TLS_CERT, 'utf8')).value];

  await assert.rejects(openTunnel(page, url, `${token}x`, hash), /WebTransportError/);
  const tunnel = await openTunnel(page, url, token, hash);
  assert.equal(tunnel.addresses.length, 2);
  const { address, address6 } = node.place.behind;
  const behind = [address, ...(hasIpv6() ? [formatAddress(parseAddress(address6))] : [])];
  const ownOfNode = tunnel.addresses.map((address) => address.replace(/\d+$/, '1'));
  assert.deepEqual(await ping(page, [...ownOfNode, ...behind]), [...ownOfNode, ...behind]);

  const connection = async (clientId: string) =>
    (
      await cluster.sql<{ transport: string; state: string; reason: string | null }>(
        'SELECT transport, state, reason FROM connections WHERE client_id = $1 ORDER BY established_at DESC LIMIT 1',
        [clientId],
      )
    )[0];
  const opened = await waitFor(() => connection('page'), { timeoutMs: TIMEOUT_MS, what: 'the connection in SQL' });
  assert.deepEqual(opened, { transport: 'webtransport', state: 'open', reason: null });
  await waitFor(
    async () => {
      const samples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
      const loss = samples.find(({ name }) => name === 'masque_vpn_packet_loss_percent');
      return loss?.value === 0;
    },
    { timeoutMs: TIMEOUT_MS, what: 'answered probes' },
  );

  await page.evaluate('tunnel.close()');
  const untilClosed = async (clientId: string, reason: string) => {
    const isClosed = async () => (await connection(clientId))?.reason === reason;
    await waitFor(isClosed, { timeoutMs: TIMEOUT_MS, what: `the end: ${reason}` });
  };
  await untilClosed('page', 'client');

  // The same module in Node, over HTTP/2.
  const answered: string[] = [];
  const own = await open(url.replace(/:\d+/, `:${SESSION_PORT}`), token, {
    WebTransport,
    options: clientOptions(readFileSync(TLS_CERT, 'utf8')),
    onPacket: (packet: Uint8Array) => {
      const echo = readEcho(packet);
      if (echo !== undefined) answered.push(readAddress(echo.from));
    },
  });
  assert.equal(own.addresses.length, 2);
  for (const address of behind) {
    await own.ping(address, 8, 1);
    await waitFor(() => answered.includes(address), { timeoutMs: TIMEOUT_MS, what: `an answer of ${address}` });
  }
  own.close();
  assert.deepEqual(await own.closed, { closeCode: 0, reason: '' });

  let heard: unknown = LOST;
  for (let n = 0; n < REVOCATIONS && heard === LOST; n++) {
    const clientId = `revoked-${n}`;
    await openTunnel(page, url, await enrol(cluster, clientId), hash);
    await cluster.api('DELETE', `/v1/clients/${clientId}`);
    heard = await page.evaluate('tunnel.closed.catch(String)');
    await untilClosed(clientId, 'revoked');
  }
  assert.deepEqual(heard, { closeCode: 0x10c, reason: '' });
});

/** Opens a tunnel as `tunnel` of the page. */
function openTunnel(page: Page, url: string, token: string, hash: number[]): Promise<{ addresses: string[] }> {
  return page.evaluate(
    async (wanted) => {
      const { openTunnel } = await import('/browser-client.js' as string);
      const { readEcho, readAddress } = await import('/browser-packet.js' as string);
      const answered: string[] = [];
      const tunnel = await openTunnel(wanted.url, wanted.token, {
        options: { serverCertificateHashes: [{ algorithm: 'sha-256', value: new Uint8Array(wanted.hash) }] },
        onPacket: (packet: Uint8Array) => {
          const echo = readEcho(packet);
          if (echo?.isRequest === false) answered.push(readAddress(echo.from));
        },
      });
      Object.assign(globalThis, { tunnel, answered });
      return { addresses: tunnel.addresses as string[] };
    },
    { url, token, hash },
  );
}

/** Sends pings until all addresses have answered, and says which did. */
async function ping(page: Page, addresses: readonly string[]): Promise<string[]> {
  let answered: string[] = [];
  await waitFor(
    async () => {
      answered = await page.evaluate(async (to) => {
        const { tunnel, answered } = globalThis as unknown as {
          tunnel: { ping(to: string, identifier: number, sequence: number): Promise<void> };
          answered: string[];
        };
        for (const [sequence, address] of to.entries()) await tunnel.ping(address, 7, sequence);
        return to.filter((address) => answered.includes(address));
      }, addresses as string[]);
      return answered.length === addresses.length;
    },
    { timeoutMs: TIMEOUT_MS, what: 'answers to pings' },
  );
  return answered;
}
