import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { formatHostPort, type HostPort } from '../../shared/config/parse-config.ts';
import { CodedError } from '../../shared/errors.ts';
import { listenProblem } from '../../shared/listen-problem.ts';
import type { Logger } from '../../shared/log/logger.ts';

/** Ours: these requests have no body and answer at once. */
const REQUEST_TIMEOUT_MS = 10_000;

export interface NodeHttpServerOptions {
  readonly listen: HostPort;
  readonly registry: Registry;
  /** What is not ready, by name; nothing when the node can serve clients. */
  readonly notReady: () => readonly string[];
  readonly log: Logger;
}

export interface NodeHttpServer {
  /** The address that is listened on, with the port that the kernel chose where 0 was asked for. */
  readonly address: HostPort;
  close(): Promise<void>;
}

/** `/healthz`, `/readyz` and `/metrics` of a node. Rejects with a CodedError that names the address. */
export async function startNodeHttpServer(options: NodeHttpServerOptions): Promise<NodeHttpServer> {
  const { listen } = options;
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    respond(options, request, response).catch((error: unknown) => {
      options.log.error({ err: error }, 'a request failed');
      if (response.headersSent) response.destroy();
      else send(response, 500, 'text/plain', 'internal error\n');
    });
  });
  await listening(server, listen);
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listening(server: Server, listen: HostPort): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const why = listenProblem(cause);
      reject(new CodedError('LISTEN_FAILED', `cannot listen on ${formatHostPort(listen)} (HTTP_LISTEN): ${why}`));
    });
    server.listen(listen.port, listen.host, resolve);
  });
}

async function respond(
  options: NodeHttpServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return send(response, 405, 'text/plain', 'only GET and HEAD are allowed\n');
  }
  switch (request.url?.split('?')[0]) {
    case '/healthz':
      return send(response, 200, 'application/json', JSON.stringify({ status: 'ok' }));
    case '/readyz': {
      const notReady = options.notReady();
      const status = notReady.length === 0 ? 'ready' : 'not ready';
      return send(
        response,
        notReady.length === 0 ? 200 : 503,
        'application/json',
        JSON.stringify({ status, notReady }),
      );
    }
    case '/metrics':
      return send(response, 200, options.registry.contentType, await options.registry.metrics());
    default:
      return send(response, 404, 'text/plain', 'there is /healthz, /readyz and /metrics\n');
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
