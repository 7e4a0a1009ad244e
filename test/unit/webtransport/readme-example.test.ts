import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { encodeAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import { encodeRouteAdvertisement } from '../../../data-plane/masque/route-advertisement.ts';
import { openTunnel } from '../../../data-plane/webtransport/browser-client.js';
import { readEcho } from '../../../data-plane/webtransport/browser-packet.js';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { certificateHash, clientOptions, WebTransport } from '../../support/webtransport-client.ts';
import { startSessionHost } from './session-host.ts';

const README = new URL('../../../data-plane/webtransport/README.md', import.meta.url);

test('the example of README opens a tunnel, with the client of the package in place of a browser', async (t) => {
  const host = await startSessionHost(t);
  const [, example = ''] = /<!-- run -->\n```js\n(.*?)```/s.exec(readFileSync(README, 'utf8')) ?? [];
  const body = example.replace(/^import .*$/m, '');
  assert.match(body, /await openTunnel/);
  const said: unknown[][] = [];
  // It knows no HTTP/3, which a page need not say.
  const Http2 = class extends WebTransport {
    constructor(url: string) {
      super(url, clientOptions(host.cert));
    }
  };
  const open = (url: string, token: string, settings: object) =>
    openTunnel(url, token, { ...settings, WebTransport: Http2 });
  const AsyncFunction = (async () => {}).constructor as new (
    ...text: string[]
  ) => (...values: unknown[]) => Promise<void>;
  const run = new AsyncFunction('openTunnel', 'url', 'token', 'certificateHash', 'console', body);
  const url = `https://127.0.0.1:${host.port}/`;
  const ran = run(open, url, 'token', certificateHash(host.cert).value, {
    log: (...parts: unknown[]) => said.push(parts),
  });
  const session = await host.nextSession();
  const packets: Buffer[] = [];
  session.on('data', (bytes: Buffer) => packets.push(bytes));
  session.write(encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('10.99.0.2/32') }]));
  session.write(encodeRouteAdvertisement([]));
  await ran;
  assert.deepEqual(said, [[['10.99.0.2'], []]]);
  await new Promise((resolve) => session.once('end', resolve));
  assert.equal(readEcho(Buffer.concat(packets).subarray(3))?.isRequest, true);
  session.end();
});
