import { relative } from 'node:path';
import { inspect } from 'node:util';

/** What became of one test file. */
export interface FileResult {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly ms: number;
}

/** One line of progress. */
export function formatFile({ file, passed, failed, skipped, ms }: FileResult): string {
  const counts = [
    ...(passed > 0 ? [`${passed} passed`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
  ];
  const word = failed > 0 ? 'FAIL' : skipped > 0 ? 'skip' : 'ok';
  return `  ${word.padEnd(4)}  ${file}  ${[...counts, `${(ms / 1000).toFixed(1)} s`].join(', ')}`;
}

interface Failure {
  readonly name: string;
  readonly file?: string | undefined;
  readonly line?: number | undefined;
  readonly details: { readonly error: Error & { readonly cause?: unknown } };
}

/** A failed test with its place and its error. node:test wraps what a test threw, so the cause is what counts. */
export function describeFailure(root: string, { name, file, line, details }: Failure): string {
  const place = file === undefined ? '' : `${relative(root, file)}${line === undefined ? '' : `:${line}`}  `;
  const error = inspect(details.error.cause ?? details.error, { depth: 4 });
  return `\n  ${place}${name}\n${error.replace(/^/gm, '    ')}`;
}
