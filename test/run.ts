import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { delimiter, join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';
import { completePath } from '../deploy/local/find-program.ts';
import { installMissing, TEST_PROGRAMS } from '../deploy/local/prerequisites.ts';
import { describeFailure, type FileResult, formatFile } from './support/report.ts';
import { isAllowedSkip } from './support/requirements.ts';

/*
 * npm test                 type check, lint, then all tests
 * npm test -- spool tun    only the test files whose path contains one of the words, without type check and lint
 *
 * REQUIRE_ALL=1 makes every skipped test a failure, but for those that need Go where there is none.
 */

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Every test file ends soon after its timeout, and what it started ends with it. */
const END_AFTER_TIMEOUT = new URL('./support/end-after-timeout.ts', import.meta.url).href;

/**
 * For two cores. Integration tests mostly wait for their clusters, so more of them run at once than there are cores. End-to-end tests
 * measure what whole clusters do, so they have the machine to themselves.
 */
const STAGES = [
  { name: 'unit', concurrency: 2, timeoutMs: 60_000 },
  { name: 'integration', concurrency: 3, timeoutMs: 180_000 },
  { name: 'e2e', concurrency: 1, timeoutMs: 240_000 },
] as const;

const TOOLS = [
  { name: 'type check', command: 'tsc', args: ['--noEmit'] },
  { name: 'lint', command: 'biome', args: ['check', '--error-on-warnings', '.'] },
] as const;

/** Characters of a file's standard error and diagnostics that are shown when it breaks. */
const OUTPUT_KEPT = 4_000;

const filters = process.argv.slice(2);
const requireAll = process.env.REQUIRE_ALL === '1';
const startedAt = performance.now();
const print = (text: string): void => console.log(text);
const total = { passed: 0, failed: 0, skipped: 0 };

process.chdir(ROOT);
process.env.PATH = [join(ROOT, 'node_modules/.bin'), completePath()].join(delimiter);

if (filters.length === 0) {
  await installMissing(TEST_PROGRAMS, print).catch((error: Error) => print(`${error.message}\n`));
  const results = await Promise.all(TOOLS.map(runTool));
  for (const ok of results) total[ok ? 'passed' : 'failed']++;
}
const failures: string[] = [];
const skips: string[] = [];
const allowedSkips: string[] = [];
for (const stage of STAGES) await runStage(stage);

if (allowedSkips.length > 0)
  print(`\nskipped${requireAll ? ', which REQUIRE_ALL=1 allows' : ''}\n${allowedSkips.join('\n')}`);
if (skips.length > 0) print(`\nskipped${requireAll ? ' (REQUIRE_ALL=1: a failure)' : ''}\n${skips.join('\n')}`);
if (failures.length > 0) print(`\nfailed\n${failures.join('\n')}`);
print(`\n${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
print(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
const nothingFound = filters.length > 0 && total.passed + total.failed + total.skipped === 0;
if (nothingFound) print(`no test file matches ${filters.join(' ')}`);
process.exit(total.failed > 0 || (requireAll && total.skipped > allowedSkips.length) || nothingFound ? 1 : 0);

async function runTool({ name, command, args }: (typeof TOOLS)[number]): Promise<boolean> {
  const begin = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => {
    child.once('close', resolve);
    child.once('error', (error) => {
      output += error.message;
      resolve(null);
    });
  });
  print(formatFile({ file: name, passed: 0, failed: code === 0 ? 0 : 1, skipped: 0, ms: performance.now() - begin }));
  if (code !== 0) print(output);
  return code === 0;
}

async function runStage({ name, concurrency, timeoutMs }: (typeof STAGES)[number]): Promise<void> {
  const files = globSync(`test/${name}/**/*.test.ts`)
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .sort();
  if (files.length === 0) return;
  print(`\n${name}`);
  const broken = new Map<string, string>();
  const output = new Map<string, string>();
  process.env.TEST_FILE_TIMEOUT_MS = String(timeoutMs);
  const stream = run({ files, concurrency, timeout: timeoutMs, execArgv: [`--import=${END_AFTER_TIMEOUT}`] });
  stream.on('test:fail', (event) => {
    const error: Error & { failureType?: string; exitCode?: number | null; signal?: string | null } =
      event.details.error;
    if (error.failureType !== 'subtestsFailed') failures.push(describeFailure(ROOT, event));
    // A file that breaks outside of its tests has no summary of its own.
    if (event.file !== undefined && resolve(event.name) === event.file) {
      print(formatFile({ file: event.name, passed: 0, failed: 1, skipped: 0, ms: event.details.duration_ms }));
      broken.set(event.file, error.signal ? `was ended by ${error.signal}` : `ended with exit code ${error.exitCode}`);
    }
  });
  stream.on('test:pass', (event) => {
    const reason = event.skip ?? event.todo;
    if (reason === undefined || reason === false) return;
    const why = typeof reason === 'string' && reason !== '' ? `: ${reason}` : '';
    const kept = typeof reason === 'string' && isAllowedSkip(reason) ? allowedSkips : skips;
    kept.push(`  ${relative(ROOT, event.file ?? '')}: ${event.name}${why}`);
  });
  const keep = ({ file, message }: { file?: string | undefined; message: string }): void => {
    if (file === undefined) return;
    const path = resolve(file);
    output.set(path, ((output.get(path) ?? '') + message).slice(-OUTPUT_KEPT));
  };
  stream.on('test:stderr', keep);
  // An error that nobody caught after the tests had ended makes a file break without a word on standard error.
  stream.on('test:diagnostic', ({ file, message }) => keep({ file, message: `${message}\n` }));
  stream.on('test:summary', ({ file, counts, success, duration_ms: ms }) => {
    const result: FileResult = {
      file: relative(ROOT, file ?? ''),
      passed: counts.passed,
      failed: counts.tests - counts.passed - counts.skipped - counts.todo,
      skipped: counts.skipped + counts.todo,
      ms,
    };
    if (file !== undefined) {
      print(formatFile(result));
      return;
    }
    total.passed += result.passed;
    total.failed += success ? 0 : Math.max(1, result.failed);
    total.skipped += result.skipped;
  });
  // Reading the stream is what keeps the tests going.
  for await (const _ of stream);
  for (const [file, end] of broken)
    failures.push(`\n  ${relative(ROOT, file)} ${end}, and said:\n${output.get(file) ?? 'nothing'}`);
}
