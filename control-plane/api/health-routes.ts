import { METRICS_CONTENT_TYPE, type MetricsService } from '../metrics/metrics-service.ts';
import { PROBLEM_CONTENT_TYPE, problem } from './problem.ts';
import type { Api } from './server.ts';

/** What is not ready, in words; empty when everything is. */
export type Readiness = () => Promise<readonly string[]>;

export function addHealthRoutes(app: Api, readiness: Readiness, metrics: Pick<MetricsService, 'scrape'>): void {
  app.get('/healthz', async () => ({ status: 'alive' }));

  app.get('/readyz', async (_request, reply) => {
    const missing = await readiness();
    if (missing.length === 0) return { status: 'ready' };
    reply.code(503).type(PROBLEM_CONTENT_TYPE);
    return JSON.stringify(problem(503, 'NOT_READY', missing.join('; ')));
  });

  app.get('/metrics', async (_request, reply) => {
    const text = await metrics.scrape();
    return reply.header('content-type', METRICS_CONTENT_TYPE).send(text);
  });
}
