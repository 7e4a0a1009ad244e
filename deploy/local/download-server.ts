import { createServer } from 'node:http';
import { pseudoRandomBytes } from './pseudo-random.ts';

/** The server behind a node: GET /<bytes>/<seed> answers with that many bytes that follow from the seed. */
const MAX_BYTES = 256 * 2 ** 20;

const listen = Number(process.argv[2]);
const server = createServer((request, response) => {
  const match = /^\/(\d{1,9})\/([\w-]{1,64})$/.exec(request.url ?? '');
  const bytes = Number(match?.[1]);
  if (match === null || bytes > MAX_BYTES) {
    response.writeHead(404).end();
    return;
  }
  const body = pseudoRandomBytes(match[2] ?? '', bytes);
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': body.length }).end(body);
});
server.listen(listen, '::');
process.once('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
