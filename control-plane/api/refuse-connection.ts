import type { Socket } from 'node:net';
import { PROBLEM_CONTENT_TYPE, type Problem, problem } from './problem.ts';

/** By the codes of Node. */
const CONNECTION_PROBLEMS: Readonly<Record<string, Problem>> = {
  HPE_HEADER_OVERFLOW: problem(431, 'HEAD_TOO_LARGE', 'the head of the request is longer than 16 KiB'),
  ERR_HTTP_REQUEST_TIMEOUT: problem(408, 'REQUEST_TIMEOUT', 'the request did not come to its end in time'),
};

/** Answers what Node cannot read as a request, for which there is no reply to use, and ends its connection. */
export function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const answer = CONNECTION_PROBLEMS[error.code ?? ''] ?? problem(400, 'INVALID_HTTP', 'the request is not HTTP/1.1');
  const body = JSON.stringify(answer);
  const head = [
    `HTTP/1.1 ${answer.status} ${answer.title}`,
    `Content-Type: ${PROBLEM_CONTENT_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
