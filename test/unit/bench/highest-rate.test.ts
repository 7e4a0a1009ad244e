import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findHighestRate, UDP_PROBES } from '../../../bench/highest-rate.ts';

/** A path that carries `limit` Mbit/s and loses what is over that. */
const path = (limit: number) => {
  const offered: number[] = [];
  const probe = async (rate: number) => {
    offered.push(rate);
    const mbps = Math.min(rate, limit);
    return { mbps, bytes: 0, lossPercent: 100 * (1 - mbps / rate) };
  };
  return { offered, probe };
};

test('the search ends after few probes, just under what the path carries', async () => {
  await fc.assert(
    fc.asyncProperty(fc.double({ min: 25, max: 5_000, noNaN: true }), async (limit) => {
      const { offered, probe } = path(limit);
      const found = await findHighestRate(probe);
      assert.ok(found <= limit && found > limit * 0.94, `${found} of ${limit}`);
      assert.ok(offered.length <= UDP_PROBES);
    }),
  );
});

test('a path that loses at every rate has none', async () => {
  assert.equal(await findHighestRate(path(1).probe), 0);
});

test('a sender that cannot send faster ends the search', async () => {
  let probes = 0;
  const found = await findHighestRate(async () => {
    probes++;
    return { mbps: 100, bytes: 0, lossPercent: 0 };
  });
  assert.equal(found, 100);
  assert.equal(probes, 1);
});
