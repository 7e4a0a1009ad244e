import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePrometheusText } from '../../../deploy/local/prometheus-text.ts';
import { compareSeries, seriesOf } from '../../chaos/series-in-sql.ts';

const BYTES = 'masque_vpn_bytes_sent_total';
const LATENCY = 'masque_vpn_latency_ms_bucket';
const IN_SQL = new Map([
  [seriesOf(BYTES, { client_id: 'ada' }), 10],
  [seriesOf(BYTES, { client_id: 'bob' }), 20],
  [seriesOf(LATENCY, { client_id: 'ada', quantile: '0.5', le: '+Inf' }), 3],
]);
const SHOWN = `
${BYTES}{client_id="ada"} 10
${BYTES}{client_id="bob"} 20
${LATENCY}{client_id="ada",quantile="0.5",le="+Inf"} 3
`;

const compare = (text: string) => compareSeries(IN_SQL, parsePrometheusText(text));

test('metrics equal SQL where every series does, whatever the control plane says of itself and of the last seconds', () => {
  assert.deepEqual(compare(`${SHOWN}masque_vpn_rtt_ms{client_id="ada"} 1.5\nmasque_vpn_control_leader 1\n`), []);
});

test('two clients whose values are swapped are both named, though the sums are right', () => {
  assert.deepEqual(compare(SHOWN.replace('"ada"} 10', '"ada"} 20').replace('"bob"} 20', '"bob"} 10')), [
    `${seriesOf(BYTES, { client_id: 'ada' })} is 20, in SQL 10`,
    `${seriesOf(BYTES, { client_id: 'bob' })} is 10, in SQL 20`,
  ]);
});

test('a series of which only one side knows is named', () => {
  assert.deepEqual(compare(SHOWN.replaceAll('bob', 'eve')), [
    `${seriesOf(BYTES, { client_id: 'bob' })} is missing, in SQL 20`,
    `${seriesOf(BYTES, { client_id: 'eve' })} is 20, in SQL missing`,
  ]);
});

test('observations in another bucket are named', () => {
  assert.equal(compare(SHOWN.replace('+Inf"} 3', '+Inf"} 2')).length, 1);
});
