import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { CounterWatch } from '../../chaos/counter-watch.ts';
import { waitFor } from '../../support/wait-for.ts';

const TIMEOUT_MS = 5_000;
const BYTES = 'masque_vpn_bytes_sent_total{client_id="ada"}';

/** A replica of the control plane, to those who scrape it. */
async function replica(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** One that answers each scrape with the next of `texts`, and then with the last one. */
function answering(t: TestContext, ...texts: readonly string[]): Promise<string> {
  let scrapes = 0;
  return replica(t, (_request, response) => response.end(`${texts[Math.min(scrapes++, texts.length - 1)]}\n`));
}

/** A first scrape of each, and one more at the end. */
async function scrapeTwice(...urls: readonly string[]): Promise<CounterWatch> {
  const watch = new CounterWatch(urls);
  watch.start();
  const done = () => watch.scrapes.disturbed + watch.unanswered + watch.errors.length >= urls.length;
  await waitFor(done, { timeoutMs: TIMEOUT_MS, what: 'the first scrapes' });
  await watch.stop();
  return watch;
}

test('a counter that goes down is a fall, with its values and the replica that said so', async (t) => {
  const url = await answering(t, `${BYTES} 10`, `${BYTES} 9`);
  const watch = await scrapeTwice(url);
  assert.deepEqual(watch.falls, [`masque_vpn_bytes_sent_total{"client_id":"ada"} from 10 to 9 at ${url}`]);
  assert.deepEqual([watch.scrapes, watch.unanswered, watch.errors], [{ disturbed: 2, quiet: 0 }, 0, []]);
});

test('a part of a histogram is a counter too', async (t) => {
  const bucket = 'masque_vpn_latency_ms_bucket{client_id="ada",le="5"}';
  const url = await answering(
    t,
    `${bucket} 3\nmasque_vpn_latency_ms_sum 7.5`,
    `${bucket} 2\nmasque_vpn_latency_ms_sum 7`,
  );
  assert.equal((await scrapeTwice(url)).falls.length, 2);
});

test('a replica that says less than another one said before is a fall', async (t) => {
  const ahead = await answering(t, `${BYTES} 10`, 'masque_vpn_other_total 1');
  let said = false;
  const behind = await replica(t, async (_request, response) => {
    // Asked before the other one had answered, it may say less.
    if (!said) await waitFor(() => watch.scrapes.disturbed > 0, { timeoutMs: TIMEOUT_MS, what: 'the other answer' });
    said = true;
    response.end(`${BYTES} 9\n`);
  });
  const watch = new CounterWatch([ahead, behind]);
  watch.start();
  await waitFor(() => watch.scrapes.disturbed === 2, { timeoutMs: TIMEOUT_MS, what: 'both answers' });
  assert.deepEqual(watch.falls, [], 'of two answers at once nobody knows which is the later one');
  await watch.stop();
  assert.deepEqual(watch.falls, [`masque_vpn_bytes_sent_total{"client_id":"ada"} from 10 to 9 at ${behind}`]);
});

test('what rises, stays, comes or goes is no fall, nor is a gauge, nor what a process says of itself', async (t) => {
  const gauges = (value: number) =>
    [
      'masque_vpn_active_connections_total',
      'masque_vpn_ip_pool_total',
      'masque_vpn_rtt_ms',
      'masque_vpn_control_http_requests_total',
      'masque_vpn_node_packets_total',
    ].map((name) => `${name} ${value}`);
  const url = await answering(
    t,
    [...gauges(10), `${BYTES} 10`, 'masque_vpn_a_total 1', 'masque_vpn_gone_total 5'].join('\n'),
    [...gauges(9), `${BYTES} 10`, 'masque_vpn_a_total 2', 'masque_vpn_new_total 0'].join('\n'),
  );
  const watch = await scrapeTwice(url);
  assert.deepEqual([watch.falls, watch.errors, watch.scrapes.disturbed], [[], [], 2]);
});

test('a scrape without the families of the cluster is not counted as one', async (t) => {
  const watch = new CounterWatch([await answering(t, 'masque_vpn_control_http_requests_total 1')]);
  watch.start();
  await watch.stop();
  assert.deepEqual([watch.scrapes, watch.errors], [{ disturbed: 0, quiet: 0 }, []]);
});

test('a replica that does not answer is excused under faults, and an error after them', async (t) => {
  const killed = await replica(t, ({ socket }) => socket.destroy());
  const away = 'http://127.0.0.1:1';
  const watch = new CounterWatch([killed, away]);
  watch.start();
  await waitFor(() => watch.unanswered === 2, { timeoutMs: TIMEOUT_MS, what: 'scrapes without an answer' });
  assert.deepEqual(watch.errors, []);
  watch.expectAnswers();
  await watch.stop();
  assert.equal(watch.unanswered, 2);
  const errors = [`${away}: connect ECONNREFUSED 127.0.0.1:1`, `${killed}: socket hang up`];
  assert.deepEqual(watch.errors.toSorted(), errors.toSorted());
});

test('a replica that answers with an error is one at any time', async (t) => {
  const url = await replica(t, (_request, response) => response.writeHead(503).end('no database'));
  const watch = await scrapeTwice(url);
  assert.equal(watch.unanswered, 0);
  assert.deepEqual(watch.errors, Array(2).fill(`${url}: GET ${url}/metrics: 503 no database`));
});

test('after the faults scrapes are counted as quiet, and the last one is made when it ends', async (t) => {
  const watch = new CounterWatch([await answering(t, `${BYTES} 1`)]);
  watch.start();
  await waitFor(() => watch.scrapes.disturbed === 1, { timeoutMs: TIMEOUT_MS, what: 'the first scrape' });
  watch.expectAnswers();
  await watch.stop();
  assert.deepEqual(watch.scrapes, { disturbed: 1, quiet: 1 });
  await watch.stop();
  assert.deepEqual(watch.scrapes, { disturbed: 1, quiet: 1 });
});

test('one that was never started can be stopped', async () => {
  await new CounterWatch(['http://127.0.0.1:1']).stop();
});
