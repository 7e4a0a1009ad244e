/** What one run of iperf3 moved, as its receiver counted it. */
export interface IperfResult {
  readonly mbps: number;
  readonly bytes: number;
  /** Of the datagrams sent; 0 for TCP. */
  readonly lossPercent: number;
}

interface IperfSum {
  readonly bytes?: number;
  readonly bits_per_second?: number;
  readonly lost_percent?: number;
}

/** Reads what `iperf3 --json` prints. Throws with what iperf3 says when the run failed. */
export function parseIperf(text: string): IperfResult {
  let report: { readonly error?: string; readonly end?: { readonly sum_received?: IperfSum } };
  try {
    report = JSON.parse(text);
  } catch (cause) {
    throw new Error(`iperf3 printed no JSON: ${text.slice(0, 200)}`, { cause });
  }
  const sum = report.end?.sum_received;
  if (report.error !== undefined || sum?.bytes === undefined || sum.bits_per_second === undefined) {
    throw new Error(`iperf3: ${report.error ?? 'no end.sum_received in its report'}`);
  }
  return { mbps: sum.bits_per_second / 1e6, bytes: sum.bytes, lossPercent: sum.lost_percent ?? 0 };
}
