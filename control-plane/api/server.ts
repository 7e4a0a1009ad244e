import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  fastify,
  type RawServerDefault,
} from 'fastify';
import { errorCode } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { StaticAddressError } from '../clients/check-static-addresses.ts';
import { ClientCommandError } from '../clients/client-aggregate.ts';
import { isDatabaseUnavailable } from '../leader/database-unavailable.ts';
import type { ControlMetrics } from '../metrics/control-metrics.ts';
import { PoolChoiceError } from '../pools/check-pool-choice.ts';
import { PoolCommandError } from '../pools/pool-aggregate.ts';
import { NotLeaderError } from '../storage/term.ts';
import type { AdminToken } from './admin-tokens.ts';
import { createAuthenticator } from './authenticate.ts';
import { HttpError, PROBLEM_CONTENT_TYPE, type Problem, problem } from './problem.ts';

/** Bodies are a few short fields (ours). */
const MAX_BODY_BYTES = 64 * 1024;
/** Everything else needs an admin token. */
const PUBLIC_ROUTES: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

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
}

/** The HTTP server without its routes: authentication under /v1, problems as RFC 9457, request metrics. */
export function createApi({ adminTokens, metrics, log }: ApiOptions): Api {
  // Fastify's own request log would carry headers and URLs of strangers; what matters is in the metrics.
  const app = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    forceCloseConnections: 'idle',
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: false, verbose: true } },
  }).withTypeProvider<TypeBoxTypeProvider>();
  const authenticate = createAuthenticator(adminTokens);
  app.decorateRequest('actor', '');

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
  app.setNotFoundHandler((_request, reply) => {
    send(reply, problem(404, 'NOT_FOUND', 'there is no such resource'));
  });
  app.setErrorHandler((error, _request, reply) => {
    const answer = toProblem(error);
    if (answer.status >= 500) log.warn({ err: error, status: answer.status }, 'a request failed');
    send(reply, answer);
  });
  return app;
}

/** With `verbose`, ajv says which schema was not met. */
type Violation = NonNullable<FastifyError['validation']>[number] & {
  readonly parentSchema?: { readonly description?: string };
};

function send(
  reply: { code(status: number): { type(type: string): { send(body: unknown): unknown } } },
  body: Problem,
) {
  // As text: fastify's serializer would answer with application/json.
  reply.code(body.status).type(PROBLEM_CONTENT_TYPE).send(JSON.stringify(body));
}

function toProblem(error: unknown): Problem {
  if (error instanceof HttpError) return problem(error.status, error.code, error.message, error.field);
  if (error instanceof ClientCommandError) {
    const status = error.code === 'CLIENT_UNKNOWN' ? 404 : 409;
    return problem(status, error.code, error.message, 'id');
  }
  if (error instanceof StaticAddressError) {
    const status = error.code === 'ADDRESS_TAKEN' || error.code === 'ADDRESS_IN_USE' ? 409 : 400;
    return problem(status, error.code, error.message, 'addresses');
  }
  if (error instanceof PoolChoiceError) {
    return problem(error.code === 'POOL_UNKNOWN' ? 400 : 409, error.code, error.message, 'pool');
  }
  if (error instanceof PoolCommandError) {
    const status = error.code === 'POOL_UNKNOWN' ? 404 : 409;
    return problem(status, error.code, error.message, 'name');
  }
  if (error instanceof NotLeaderError)
    return problem(
      503,
      error.code,
      'there is no leader here: this replica of the control plane only reads, send changes to the one that leads',
    );
  const { validation, validationContext, statusCode, message } = error as Partial<FastifyError>;
  const [first] = validation ?? [];
  if (first) {
    const field = fieldOf(first.instancePath, first.params);
    return problem(400, 'INVALID_REQUEST', `${validationContext} ${field}: ${describeProblem(first)}`, field);
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return problem(statusCode, errorCode(error) ?? 'INVALID_REQUEST', message ?? 'the request cannot be read');
  }
  if (isDatabaseUnavailable(error)) return problem(503, 'UNAVAILABLE', 'the database cannot be reached now, try again');
  // What went wrong inside is for the log, not for the caller.
  return problem(500, 'INTERNAL', 'the request failed');
}

/** What is allowed: in the words of the schema, where it has a pattern, which is for programs. */
function describeProblem({ keyword, message, parentSchema }: Violation): string {
  const expected = keyword === 'pattern' ? parentSchema?.description : undefined;
  return expected === undefined ? (message ?? 'does not fit') : `must be ${expected}`;
}

function fieldOf(instancePath: string, params: Record<string, unknown>): string {
  const name = params.missingProperty ?? params.additionalProperty;
  const path = instancePath.split('/').filter((part) => part !== '');
  return [...path, ...(typeof name === 'string' ? [name] : [])].join('.') || '(root)';
}
