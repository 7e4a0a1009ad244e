import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { test } from 'node:test';
import { commandLineActor } from '../../../control-plane/admin/command-line-actor.ts';
import { namedTokens } from '../../../control-plane/api/admin-tokens.ts';

test('a command is done by the user who runs it, and no admin token can have that name', () => {
  assert.equal(commandLineActor(), `cli:${userInfo().username}`);
  const [token] = namedTokens.parse('cli:ada:sixteen-characters') ?? [];
  assert.equal(token?.name, 'cli');
});

test('a user without a name, as in some containers, has its number', () => {
  const nameless = () => {
    throw new Error('ENOENT: no entry for the user');
  };
  assert.equal(commandLineActor(nameless), `cli:uid-${process.getuid?.()}`);
});
