import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { prepareStateDirectory } from '../../../data-plane/state/state-directory.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

const modeOf = (path: string) => statSync(path).mode & 0o777;

test('a directory is made with those above it, for its owner alone', (t) => {
  const directory = join(temporaryDirectory(t), 'a', 'b', 'state');
  prepareStateDirectory(directory);
  assert.equal(modeOf(directory), 0o700);
  const beside = join(directory, '..', 'beside');
  prepareStateDirectory(relative(process.cwd(), beside));
  assert.equal(modeOf(beside), 0o700);
});

test('a directory that is there, or a link to one, keeps its mode', (t) => {
  const directory = join(temporaryDirectory(t), 'state');
  mkdirSync(directory);
  chmodSync(directory, 0o755);
  symlinkSync(directory, `${directory}-link`);
  prepareStateDirectory(`${directory}-link`);
  assert.equal(modeOf(directory), 0o755);
});

test('a directory that everybody can write is refused, and keeps its mode', (t) => {
  const directory = join(temporaryDirectory(t), 'shared');
  mkdirSync(directory);
  for (const mode of [0o1777, 0o777, 0o722]) {
    chmodSync(directory, mode);
    assert.throws(() => prepareStateDirectory(directory), {
      code: 'BAD_CONFIG',
      message: `STATE_DIR: got "${directory}", expected a directory that not everybody can write, e.g. ${directory}/masque-vpn`,
    });
    assert.equal(statSync(directory).mode & 0o7777, mode);
  }
});

test('what can be no directory is refused at once, with the name of the variable, its value and why', (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  symlinkSync(join(file, '..', 'nowhere'), `${file}-link`);
  for (const [path, why] of [
    // There mkdir says ENOENT, though its parent is there.
    ['/proc/masque-vpn', 'ENOENT'],
    ['/proc/self/masque-vpn/state', 'ENOENT'],
    [file, 'EEXIST'],
    [join(file, 'state'), 'ENOTDIR'],
    [`${file}-link`, 'EEXIST'],
  ] as const) {
    assert.throws(
      () => prepareStateDirectory(path),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'BAD_CONFIG');
        const text = `STATE_DIR: got ${JSON.stringify(path)}, expected a directory that it can make and write (${why}: `;
        assert.ok(error.message.startsWith(text), error.message);
        return true;
      },
    );
  }
  assert.equal(modeOf(file) & 0o100, 0, 'what is no directory stays as it was');
});
