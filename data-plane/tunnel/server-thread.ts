import { errorCode } from '../../shared/errors.ts';
import { PacketLoop } from '../packet-thread/packet-loop.ts';
import { ThreadPort } from '../packet-thread/thread-port.ts';
import { PROBE_INTERVAL_MS } from './echo-probe.ts';
import type { ServerThreadCommand, ServerThreadOptions, ServerThreadReport } from './tunnel-messages.ts';
import { TunnelServer } from './tunnel-server.ts';

/** How often connections without a tunnel and requests without an end are looked for. */
const SWEEP_INTERVAL_MS = 1_000;

type Port = ThreadPort<ServerThreadCommand, ServerThreadReport, ServerThreadOptions>;

/** The node's packet thread: TUN, UDP and QUIC in one loop. */
function main(): void {
  const port: Port = new ThreadPort();
  let server: TunnelServer | undefined;
  try {
    const loop = new PacketLoop(port.wake, () =>
      port.receive((command) => (command.type === 'stop' ? loop.stop() : server?.command(command))),
    );
    server = new TunnelServer(port.options, (report) => port.post(report), loop);
    serve(server, loop, port);
    server.close();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    server?.abandon(`the packet thread failed: ${message}`);
    port.post({ type: 'fatal', code: errorCode(error) ?? 'PACKET_THREAD', message });
  }
}

function serve(server: TunnelServer, loop: PacketLoop, port: Port): void {
  const nowMs = performance.now();
  loop.timers.every(port.options.trafficWindowMs, nowMs, () => server.endWindow());
  loop.timers.every(PROBE_INTERVAL_MS, nowMs, (now) => server.probe(now));
  loop.timers.every(SWEEP_INTERVAL_MS, nowMs, (now) => server.sweep(now));
  port.post({ type: 'ready', listen: server.listen, tunName: server.tunName, tunOffload: server.tunOffload });
  loop.run(server);
}

main();
