import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chromium, type Page } from 'playwright-core';
import { findProgram } from '../../deploy/local/find-program.ts';

const MODULES = new URL('../../data-plane/webtransport/', import.meta.url);

/** An empty page in Debian's Chromium, without a window, from a server that has the modules for pages. */
export async function openPage(t: { after(fn: () => unknown): void }): Promise<Page> {
  const server = createServer((request, response) => {
    const [, module] = /^\/(browser-[a-z]+\.js)$/.exec(request.url ?? '') ?? [];
    response.setHeader('content-type', module === undefined ? 'text/html' : 'text/javascript');
    response.end(module === undefined ? '<title>A page</title>' : readFileSync(new URL(module, MODULES)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const executablePath = findProgram('chromium');
  if (executablePath === undefined) throw new Error('no chromium on PATH');
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  t.after(() => browser.close());
  const page = await browser.newPage();
  // Only pages of a secure origin have WebTransport, and this machine is one.
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return page;
}
