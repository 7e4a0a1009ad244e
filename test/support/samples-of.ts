import { type TrafficColumns, type TrafficSample, trafficAt } from '../../shared/events/traffic-columns.ts';

/** The samples of a window, one by one. */
export function samplesOf({ samples }: { readonly samples: TrafficColumns }): TrafficSample[] {
  return samples.connectionId.map((connectionId, i) => {
    const latency = samples.latencyMs[i]!;
    return {
      connectionId,
      clientId: samples.clientId[i]!,
      ...trafficAt(samples, i),
      rttMs: samples.rttMs[i]!,
      latencyMs: latency && { p50: latency[0], p95: latency[1], p99: latency[2] },
      lossPercent: samples.lossPercent[i]!,
    };
  });
}
