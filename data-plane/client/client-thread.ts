import { errorCode } from '../../shared/errors.ts';
import { PacketLoop } from '../packet-thread/packet-loop.ts';
import { ThreadPort } from '../packet-thread/thread-port.ts';
import type { ClientThreadCommand, ClientThreadOptions, ClientThreadReport } from './client-messages.ts';
import { KEEPALIVE_INTERVAL_MS } from './client-tunnel.ts';
import { TunnelClient } from './tunnel-client.ts';

const REPORT_INTERVAL_MS = 500;
/** How often the deadlines of an attempt are looked at. */
const SWEEP_INTERVAL_MS = 250;

/** The client's packet thread: TUN, UDP and QUIC in one loop. */
function main(): void {
  const port = new ThreadPort<ClientThreadCommand, ClientThreadReport, ClientThreadOptions>();
  try {
    const loop = new PacketLoop(port.wake, () =>
      port.receive((command) => {
        if (command.type === 'stop') loop.stop();
        else client.command(command);
      }),
    );
    const client = new TunnelClient(port.options, (report) => port.post(report), loop);
    const nowMs = performance.now();
    loop.timers.every(REPORT_INTERVAL_MS, nowMs, () => client.report());
    loop.timers.every(KEEPALIVE_INTERVAL_MS, nowMs, () => client.keepAlive());
    loop.timers.every(SWEEP_INTERVAL_MS, nowMs, (now) => client.sweep(now));
    port.post({ type: 'ready', tun: client.tunName });
    loop.run(client);
    client.close();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    port.post({ type: 'fatal', code: errorCode(error) ?? 'PACKET_THREAD', message });
  }
}

main();
