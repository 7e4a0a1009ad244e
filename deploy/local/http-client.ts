import { request } from 'node:http';
import { CodedError } from '../../shared/errors.ts';
import { parsePrometheusText, type Sample } from './prometheus-text.ts';

const TIMEOUT_MS = 5_000;
/** As long as Prometheus waits, where it is not told otherwise. */
const SCRAPE_TIMEOUT_MS = 10_000;

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

export class HttpStatusError extends CodedError {
  readonly status: number;

  constructor(method: string, url: string, answer: HttpAnswer) {
    super('HTTP_STATUS', `${method} ${url}: ${answer.status} ${answer.body.slice(0, 300)}`);
    this.status = answer.status;
  }
}

/** One plain HTTP request. Rejects when there is no whole answer within `timeoutMs` (5 s); every status is an answer. */
export function httpRequest(
  method: string,
  url: string,
  options: { readonly token?: string; readonly body?: unknown; readonly timeoutMs?: number } = {},
): Promise<HttpAnswer> {
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const headers = {
    ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
  };
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
    // No connection is kept: it would make a stopped server wait for it.
    const outgoing = request(url, { method, headers, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
      response.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

export async function isOk(url: string): Promise<boolean> {
  return (await httpRequest('GET', url)).status === 200;
}

export async function scrape(url: string): Promise<Sample[]> {
  const answer = await httpRequest('GET', url, { timeoutMs: SCRAPE_TIMEOUT_MS });
  if (answer.status !== 200) throw new HttpStatusError('GET', url, answer);
  return parsePrometheusText(answer.body);
}
