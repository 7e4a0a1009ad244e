import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { webTransportOverHttp3 } from '../../support/http3-session-peer.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { http2, http3 } from '../../support/transport-under-test.ts';
import { waitFor } from '../../support/wait-for.ts';
import { SESSION_LISTEN, webTransportOverHttp2 } from '../../support/webtransport-peer.ts';
import { startOneNode, targetOf } from './node-setup.ts';
import { tunnelTransportContract } from './tunnel-transport-contract.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const TRANSPORTS = [http3, http2, webTransportOverHttp2, webTransportOverHttp3];
const clientId = 'tester';
/** Behind the node, and other clients. */
const ROUTES = '192.0.2.0/24,2001:db8::/32,10.99.0.0/16,fd00:99::/64';

let cluster: Cluster;
let endOfTest = () => {};

suite('what every transport of tunnels owes its clients', { skip }, () => {
  before(async () => {
    const directory = temporaryDirectory({
      after: (end) => {
        endOfTest = end;
      },
    });
    const nodeEnv = {
      TRAFFIC_WINDOW_MS: '1000',
      MAX_TUNNELS_PER_CLIENT: '100',
      ADVERTISE_ROUTES: ROUTES,
      WEBTRANSPORT_LISTEN: SESSION_LISTEN,
    };
    cluster = await startOneNode({ directory, clients: [clientId], connect: [], nodeEnv });
  });

  after(async () => {
    await cluster?.stop();
    endOfTest();
  });

  for (const transport of TRANSPORTS) {
    suite(`item 41 ${transport.id}`, () => tunnelTransportContract(transport, { cluster: () => cluster, clientId }));
  }

  // The last one: it stops the node.
  test('item 40 a drain ends the tunnels of all transports cleanly, and says that it was the reason', async () => {
    const { token } = cluster.client(clientId);
    const since = new Date();
    const tunnels = await Promise.all(TRANSPORTS.map((transport) => transport.request(targetOf(cluster), token)));
    for (const tunnel of tunnels) await tunnel.until(() => tunnel.addresses.length > 0, 'addresses');
    await cluster.node('node-a').service.stop();
    for (const tunnel of tunnels) {
      await tunnel.until(() => tunnel.ended !== undefined, 'the end');
      assert.equal(tunnel.ended, 'end');
      tunnel.close();
    }
    // A flood may have lost the goodbye of a client of a test before, whose tunnel is drained too.
    const drained = () =>
      cluster.sql<{ transport: string }>(
        `SELECT transport FROM connections WHERE reason = 'drained' AND established_at >= $1 ORDER BY transport`,
        [since],
      );
    await waitFor(async () => (await drained()).length === TRANSPORTS.length, {
      timeoutMs: TIMEOUT_MS,
      what: 'the ends',
    });
    assert.deepEqual(
      (await drained()).map(({ transport }) => transport),
      TRANSPORTS.map(({ name }) => name).toSorted(),
    );
  });
});
