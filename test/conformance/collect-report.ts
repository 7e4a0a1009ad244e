import { globSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type NamedTest, namedTests } from './named-tests.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export const REPORT_FILE = join(ROOT, 'test/conformance/README.md');

/** All titles in the repository that name a requirement, in the order of their files; the tests of this report itself are none. */
export function collectNamedTests(): NamedTest[] {
  return globSync('test/{unit,integration,e2e}/**/*.test.ts', { cwd: ROOT })
    .map((file) => relative(ROOT, join(ROOT, file)))
    .filter((file) => !file.startsWith('test/unit/conformance/'))
    .sort()
    .flatMap((file) => namedTests(file, readFileSync(join(ROOT, file), 'utf8')));
}
