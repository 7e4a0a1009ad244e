import assert from 'node:assert/strict';
import test from 'node:test';
import { parsePrometheusText, sumOf } from '../../../deploy/local/prometheus-text.ts';

const text = `# HELP a_total Something.
# TYPE a_total counter
a_total{client_id="c-1",direction="in"} 12
a_total{client_id="c-1",direction="out"} 3.5e2
a_total{client_id="say \\"hi\\", \\\\ and \\n}"} 1
b +Inf
c 7 1700000000000
`;

test('reads names, labels and values', () => {
  const samples = parsePrometheusText(text);
  assert.deepEqual(samples[0], { name: 'a_total', labels: { client_id: 'c-1', direction: 'in' }, value: 12 });
  assert.equal(samples[2]?.labels.client_id, 'say "hi", \\ and \n}');
  assert.equal(samples[3]?.value, Number.POSITIVE_INFINITY);
  assert.equal(samples[4]?.value, 7);
});

test('sums what has at least the given labels', () => {
  const samples = parsePrometheusText(text);
  assert.equal(sumOf(samples, 'a_total', { client_id: 'c-1' }), 362);
  assert.equal(sumOf(samples, 'a_total'), 363);
  assert.equal(sumOf(samples, 'none'), 0);
});

test('refuses a line that is none of the format', () => {
  assert.throws(() => parsePrometheusText('a_total{ 12'), /not a line/);
});
