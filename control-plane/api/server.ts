import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  type RawServerDefault,
} from 'fastify';
import Type from 'typebox';
import { describeValue } from '../../shared/describe-value.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { ControlMetrics } from '../metrics/control-metrics.ts';
import type { AdminToken } from './admin-tokens.ts';
import { createAuthenticator } from './authenticate.ts';
import { KnownRoutes } from './known-routes.ts';
import { parseJson } from './parse-json.ts';
import { HttpError, PROBLEM_CONTENT_TYPE, type Problem, problem } from './problem.ts';
import { refuseConnection } from './refuse-connection.ts';
import { MAX_BODY_BYTES, toProblem } from './to-problem.ts';

/** How long a request may take to arrive (ours); it is looked for as often, so it is ended before twice the time. */
const REQUEST_TIMEOUT_MS = 10_000;
/** No part of a path is longer, since Node takes no longer heads by default, bytes. How long a name may be the schemas say. */
const MAX_PARAM_LENGTH = 16 * 1024;
/** Everything else needs an admin token. */
const PUBLIC_ROUTES: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

/** What a route has no schema for, it does not know. */
const NoQuery = Type.Object({}, { additionalProperties: false });

export type Api = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse<IncomingMessage>,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface ApiOptions {
  readonly adminTokens: readonly AdminToken[];
  readonly metrics: ControlMetrics;
  readonly log: Logger;
  /** Default: 10 s. */
  readonly requestTimeoutMs?: number;
}

/** The HTTP server without its routes: authentication under /v1, problems as RFC 9457, request metrics. */
export function createApi({ adminTokens, metrics, log, requestTimeoutMs = REQUEST_TIMEOUT_MS }: ApiOptions): Api {
  // Fastify's own request log would carry headers and URLs of strangers; what matters is in the metrics.
  const app = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: requestTimeoutMs,
    http: {
      // Node takes the longer one of both for the whole request.
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: requestTimeoutMs,
      // Node's own answer is empty.
      requireHostHeader: false,
    },
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    clientErrorHandler: refuseConnection,
    // A path that cannot be decoded gets here before there is a route.
    frameworkErrors: (error, _request, reply) => send(reply as FastifyReply, toProblem(error)),
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: false, verbose: true } },
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser('application/json', { parseAs: 'string' }, async (_request: unknown, body: string) =>
    parseJson(body),
  );
  app.addContentTypeParser('*', async ({ headers }: FastifyRequest) => {
    const detail = `content-type: got ${describeValue(headers['content-type'])}, expected application/json`;
    throw new HttpError(415, 'UNSUPPORTED_MEDIA_TYPE', detail);
  });
  const routes = new KnownRoutes(app);
  app.addHook('onRoute', (route) => {
    if (!PUBLIC_ROUTES.has(route.url)) route.schema = { querystring: NoQuery, ...route.schema };
  });
  const authenticate = createAuthenticator(adminTokens);
  app.decorateRequest('actor', '');

  app.addHook('onRequest', async ({ raw }) => demandHost(raw));
  app.addHook('onRequest', async (request, reply) => {
    // By route, not by URL: the router decodes `/%761/clients`, so its text proves nothing.
    const route = request.routeOptions.url;
    if (route === undefined ? !request.url.startsWith('/v1') : PUBLIC_ROUTES.has(route)) return;
    const actor = authenticate(request.headers.authorization);
    if (actor !== undefined) {
      request.actor = actor;
      return;
    }
    reply.header('www-authenticate', 'Bearer');
    throw new HttpError(401, 'UNAUTHORIZED', 'the Authorization header must be "Bearer" and an admin token');
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? '(none)';
    metrics.countRequest(request.method, route, reply.statusCode, reply.elapsedTime / 1000);
  });
  app.setNotFoundHandler(({ method, url }, reply) => {
    const [path = ''] = url.split('?');
    const allowed = routes.allowed(path);
    if (allowed.length === 0) {
      send(
        reply,
        problem(404, 'NOT_FOUND', `path: got ${describeValue(path)}, expected one of ${routes.paths.join(', ')}`),
      );
      return;
    }
    reply.header('allow', allowed.join(', '));
    send(
      reply,
      problem(405, 'METHOD_NOT_ALLOWED', `method: got ${describeValue(method)}, expected one of ${allowed.join(', ')}`),
    );
  });
  app.setErrorHandler((error, _request, reply) => {
    const answer = toProblem(error);
    if (answer.status >= 500) log.warn({ err: error, status: answer.status }, 'a request failed');
    send(reply, answer);
  });
  return app;
}

/** RFC 9112, 3.2: a request of HTTP/1.1 has one Host. Throws HttpError. */
function demandHost({ httpVersion, headersDistinct: { host = [] } }: IncomingMessage): void {
  if (host.length === 1 || (host.length === 0 && httpVersion === '1.0')) return;
  const got = host.length === 0 ? 'nothing' : `${host.length} of them`;
  throw new HttpError(400, 'INVALID_HOST', `host: got ${got}, expected one Host header`);
}

function send(
  reply: { code(status: number): { type(type: string): { send(body: unknown): unknown } } },
  body: Problem,
) {
  // As text: fastify's serializer would answer with application/json.
  reply.code(body.status).type(PROBLEM_CONTENT_TYPE).send(JSON.stringify(body));
}
