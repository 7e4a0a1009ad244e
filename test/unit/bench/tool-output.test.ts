import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIperf } from '../../../bench/iperf-result.ts';
import { LOST_PING_MS, parsePing } from '../../../bench/ping-result.ts';

const sum = (more: object) =>
  JSON.stringify({
    end: {
      sum_sent: { bytes: 9, bits_per_second: 72 },
      sum_received: { bytes: 125_000, bits_per_second: 2e6, ...more },
    },
  });

test("iperf3: what the receiver counted, with UDP's loss", () => {
  assert.deepEqual(parseIperf(sum({ retransmits: 3 })), { mbps: 2, bytes: 125_000, lossPercent: 0 });
  assert.deepEqual(parseIperf(sum({ lost_percent: 0.49 })), { mbps: 2, bytes: 125_000, lossPercent: 0.49 });
});

test('iperf3: a run that failed says why', () => {
  const refused = '{"intervals":[],"end":{},"error":"unable to connect to server: Connection refused"}';
  assert.throws(() => parseIperf(refused), /unable to connect to server: Connection refused/);
  assert.throws(() => parseIperf('{"end":{}}'), /no end.sum_received/);
  assert.throws(() => parseIperf('iperf3: parameter error'), /no JSON: iperf3: parameter error/);
});

const PING = `PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.
64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=9.5 ms
64 bytes from 192.0.2.1: icmp_seq=2 ttl=64 time=0.063 ms
64 bytes from 192.0.2.1: icmp_seq=4 ttl=64 time=0.034 ms
64 bytes from 192.0.2.1: icmp_seq=4 ttl=64 time=7 ms (DUP!)
64 bytes from 192.0.2.1: icmp_seq=5 ttl=64 time=12 ms

--- 192.0.2.1 ping statistics ---
6 packets transmitted, 4 received, +1 duplicates, 33% packet loss, time 419ms
`;

test('ping: times in order without the warm-up; lost ones count as the longest wait, repeats not at all', () => {
  assert.deepEqual(parsePing(PING, 1), [0.063, LOST_PING_MS, 0.034, 12, LOST_PING_MS]);
  assert.deepEqual(parsePing(PING, 0)[0], 9.5);
  assert.deepEqual(parsePing(PING, 6), []);
  assert.deepEqual(parsePing(PING, 10), []);
});

test('ping: output without a summary is an error', () => {
  assert.throws(() => parsePing('ping: connect: Network is unreachable', 0), /Network is unreachable/);
});
