import { type Bar, type JudgedBar, judgeBar } from './bar.ts';
import { type FiguresByPath, RATES, ratio } from './tunnel-figures.ts';

const MIN_TIMES_OPENVPN = 1.5;
const MIN_TIMES_WIREGUARD_GO = 2;
const MIN_IPV6_OF_IPV4 = 0.9;
const MAX_IDLE_P50_MS = 0.8;
const MIN_HTTP2_MBPS = 300;

const COMPARED = [
  { of: 'h3', over: 'openvpn', atLeast: MIN_TIMES_OPENVPN },
  { of: 'h3', over: 'wireguard-go', atLeast: MIN_TIMES_WIREGUARD_GO },
  { of: 'h3-v6', over: 'h3', atLeast: MIN_IPV6_OF_IPV4 },
] as const;

/** What the medians of one run on two cores, with both ends on the machine, have to reach. */
export function judgeTunnel(medians: FiguresByPath): JudgedBar[] {
  const throughput = COMPARED.flatMap(({ of, over, atLeast }) =>
    (['tcp1Up', 'tcp1Down'] as const).map(
      (figure): Bar => ({
        name: `${of}/${over}, one TCP stream ${figure === 'tcp1Up' ? 'up' : 'down'}`,
        limit: { atLeast },
        actual: ratio(medians, figure, of, over),
        unit: 'times',
      }),
    ),
  );
  const http2 = (['tcp1Up', 'tcp1Down'] as const).map(
    (figure): Bar => ({
      name: `h2, one TCP stream ${figure === 'tcp1Up' ? 'up' : 'down'}`,
      limit: { atLeast: MIN_HTTP2_MBPS },
      actual: medians.h2?.[figure],
      unit: 'Mbit/s',
    }),
  );
  const theirs = medians.openvpn?.loadP99Ms;
  const delay: Bar[] = [
    { name: 'h3, RTT idle p50', limit: { below: MAX_IDLE_P50_MS }, actual: medians.h3?.idleP50Ms, unit: 'ms' },
    {
      name: "h3, RTT under load p99 against openvpn's",
      limit: { below: theirs ?? Number.NaN },
      actual: theirs === undefined ? undefined : medians.h3?.loadP99Ms,
      unit: 'ms',
    },
  ];
  return [...throughput, ...http2, ...delay].map(judgeBar);
}

/** Every throughput of ours over that of the others, and IPv6 over IPv4, as `{"h3/openvpn": {"tcp1Up": 1.6}}`. */
export function throughputRatios(medians: FiguresByPath): Record<string, Record<string, number>> {
  const pairs = [{ of: 'h3', over: 'raw' }, ...COMPARED, { of: 'h2', over: 'h3' }] as const;
  const table: Record<string, Record<string, number>> = {};
  for (const { of, over } of pairs) {
    const ratios = RATES.map((figure) => [figure, ratio(medians, figure, of, over)] as const);
    // A path without any loss-free rate has 0, and what is divided by it says nothing.
    const known = ratios.filter((pair): pair is [(typeof RATES)[number], number] => Number.isFinite(pair[1]));
    if (known.length > 0) table[`${of}/${over}`] = Object.fromEntries(known);
  }
  return table;
}
