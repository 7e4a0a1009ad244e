import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FiguresByPath } from '../../../bench/tunnel-figures.ts';
import { renderTunnel, reportTunnel } from '../../../bench/tunnel-report.ts';

/** Figures with which every bar is just met. */
const good: FiguresByPath = {
  raw: { tcp1Up: 10_000, tcp1Down: 10_000, idleP50Ms: 0.1 },
  openvpn: { tcp1Up: 400, tcp1Down: 600, loadP99Ms: 10 },
  'wireguard-go': { tcp1Up: 300, tcp1Down: 450, loadP99Ms: 20 },
  h3: { tcp1Up: 600, tcp1Down: 900, idleP50Ms: 0.79, loadP99Ms: 9.99, cpuUpClient: 1.5 },
  'h3-v6': { tcp1Up: 540, tcp1Down: 810 },
  h2: { tcp1Up: 300, tcp1Down: 300 },
};
const missed = (rounds: readonly FiguresByPath[]) =>
  reportTunnel(5, rounds)
    .bars.filter(({ verdict }) => verdict === 'MISSED')
    .map(({ name, actual }) => `${name}: ${actual}`);

test('bars that are just met are met, and the ratios are named after what is divided', () => {
  const { ok, ratios, bars } = reportTunnel(5, [good]);
  assert.deepEqual(missed([good]), []);
  assert.equal(ok, true);
  assert.equal(bars.length, 10);
  assert.deepEqual(ratios, {
    'h3/raw': { tcp1Up: 0.06, tcp1Down: 0.09 },
    'h3/openvpn': { tcp1Up: 1.5, tcp1Down: 1.5 },
    'h3/wireguard-go': { tcp1Up: 2, tcp1Down: 2 },
    'h3-v6/h3': { tcp1Up: 0.9, tcp1Down: 0.9 },
    'h2/h3': { tcp1Up: 0.5, tcp1Down: 0.333 },
  });
});

test('each bar is missed by itself, with its figure', () => {
  assert.deepEqual(missed([{ ...good, openvpn: { ...good.openvpn, tcp1Down: 601 } }]), [
    'h3/openvpn, one TCP stream down: 1.498',
  ]);
  assert.deepEqual(missed([{ ...good, 'wireguard-go': { ...good['wireguard-go'], tcp1Up: 301 } }]), [
    'h3/wireguard-go, one TCP stream up: 1.993',
  ]);
  assert.deepEqual(missed([{ ...good, 'h3-v6': { tcp1Up: 539, tcp1Down: 810 } }]), [
    'h3-v6/h3, one TCP stream up: 0.898',
  ]);
  assert.deepEqual(missed([{ ...good, h2: { tcp1Up: 300, tcp1Down: 299 } }]), ['h2, one TCP stream down: 299']);
  assert.deepEqual(missed([{ ...good, h3: { ...good.h3, idleP50Ms: 0.8 } }]), ['h3, RTT idle p50: 0.8']);
  assert.deepEqual(missed([{ ...good, h3: { ...good.h3, loadP99Ms: 10 } }]), [
    "h3, RTT under load p99 against openvpn's: 10",
  ]);
});

test('the rounds count by their medians', () => {
  const slow = { ...good, h3: { ...good.h3, tcp1Up: 1 } };
  assert.deepEqual(missed([good, slow, good]), []);
  assert.equal(reportTunnel(5, [slow, good, slow]).ok, false);
  assert.equal(reportTunnel(5, [good, slow, good]).medians.h3?.tcp1Up, 600);
});

test('what was left out is said not to be measured, and is not missed', () => {
  const { ok, bars, ratios } = reportTunnel(5, [{ h3: good.h3 ?? {} }]);
  assert.equal(ok, true);
  assert.deepEqual(ratios, {});
  assert.deepEqual(
    bars.filter(({ verdict }) => verdict !== 'not measured').map(({ name }) => name),
    ['h3, RTT idle p50'],
  );
});

test('the tables have a row for each path that was measured', () => {
  const text = renderTunnel(reportTunnel(5, [good]));
  assert.match(text, /^ {2}wireguard-go +300 +450/m);
  assert.match(text, /^ {2}h3\/openvpn +1\.50 +1\.50/m);
  assert.match(text, /one TCP stream up +at least 1\.5 times +1\.50 +met/);
  assert.doesNotMatch(renderTunnel(reportTunnel(5, [{ h3: good.h3 ?? {} }])), /wireguard-go +\d/);
});
