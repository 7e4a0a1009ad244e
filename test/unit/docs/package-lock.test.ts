import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

interface Locked {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lock = JSON.parse(readFileSync(new URL('../../../package-lock.json', import.meta.url), 'utf8')) as {
  readonly packages: Readonly<Record<string, Locked>>;
};

// npm install leaves out what the registry at hand does not have, and npm ci then refuses the lock file.
test('package-lock.json names every optional package, those of other platforms too', () => {
  for (const [path, { optionalDependencies = {} }] of Object.entries(lock.packages)) {
    for (const name of Object.keys(optionalDependencies)) {
      const isThere = [`node_modules/${name}`, `${path}/node_modules/${name}`].some((key) => key in lock.packages);
      assert.ok(isThere, `${name}, optional of ${path}: add its version by hand, as the entries beside it are`);
    }
  }
});
