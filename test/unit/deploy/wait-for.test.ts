import assert from 'node:assert/strict';
import test from 'node:test';
import { StopWaiting, waitFor } from '../../support/wait-for.ts';

const soon = { timeoutMs: 20, intervalMs: 1, what: 'the thing' };

test('answers with the first truthy value, and takes an error for "not yet"', async () => {
  let calls = 0;
  const value = await waitFor(
    () => {
      calls++;
      if (calls === 1) throw new Error('not there');
      return calls === 2 ? undefined : 'there';
    },
    { ...soon, timeoutMs: 5_000 },
  );
  assert.equal(value, 'there');
});

test('names what it waited for, and the last value or error', async () => {
  await assert.rejects(
    waitFor(() => 0, soon),
    /waiting for the thing \(last value 0\)/,
  );
  const failing = () => Promise.reject(new Error('connection refused'));
  await assert.rejects(waitFor(failing, soon), /waiting for the thing \(last error: connection refused\)/);
});

test('gives up at once when the probe knows that waiting is of no use', async () => {
  const probe = () => Promise.reject(new StopWaiting('it is dead'));
  await assert.rejects(waitFor(probe, { ...soon, timeoutMs: 60_000 }), /it is dead/);
});
