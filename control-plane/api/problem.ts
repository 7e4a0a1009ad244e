import { CodedError } from '../../shared/errors.ts';

export const PROBLEM_CONTENT_TYPE = 'application/problem+json; charset=utf-8';

/** An error as the API tells it: RFC 9457, with our stable code, and the field where one is to blame. */
export interface Problem {
  readonly type: 'about:blank';
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly field?: string;
}

/** Thrown by handlers; the server answers with its problem. */
export class HttpError extends CodedError {
  readonly status: number;
  readonly field: string | undefined;

  constructor(status: number, code: string, detail: string, options: { field?: string; cause?: unknown } = {}) {
    super(code, detail, { cause: options.cause });
    this.status = status;
    this.field = options.field;
  }
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  431: 'Request Header Fields Too Large',
  503: 'Service Unavailable',
};

export function problem(status: number, code: string, detail: string, field?: string): Problem {
  const title = TITLES[status] ?? (status >= 500 ? 'Internal Server Error' : 'Error');
  return { type: 'about:blank', title, status, detail, code, ...(field === undefined ? {} : { field }) };
}
