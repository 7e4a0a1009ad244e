import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connectDependencies } from '../../../control-plane/leader/connect-dependencies.ts';
import { DEFAULT_BLOCK_LENGTH } from '../../../control-plane/pools/block-lengths.ts';
import { checkConfiguredPool } from '../../../control-plane/pools/configured-pool.ts';
import { createDatabase, createPool } from '../../../control-plane/storage/database.ts';
import { type NatsServer, startNatsServer } from '../../../deploy/local/nats-server.ts';
import { describeError } from '../../../shared/errors.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { needsBinary } from '../../support/requirements.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

const skip = needsBinary('nats-server', 'nats-server');
/** Bytes from the begin and from the end of what Postgres sends to one that starts: close together where its answers are short. */
const DISTANCES = Array.from({ length: 26 }, (_, i) => Math.round(40 * 1.35 ** i));
const LAYOUT = { prefixes: [parsePrefix('10.99.0.0/16')], blockLength: DEFAULT_BLOCK_LENGTH };

let postgres: TestPostgres;
let nats: NatsServer;
before(async () => {
  if (skip) return;
  postgres = await startTestPostgres();
  nats = await startNatsServer({ directory: join(temporaryDirectory({ after }), 'nats') });
});
after(() => Promise.all([postgres?.stop(), nats?.stop()]));

/** Brings the newest database up to date as a control plane does when it starts, over a link of its own. */
async function begin(prepare: (link: TcpProxy) => void): Promise<TcpProxy> {
  const link = await TcpProxy.inFrontOf(postgres.url());
  prepare(link);
  const database = createDatabase(createPool(link.over(postgres.url()), 'broken link', () => undefined));
  try {
    const connection = await connectDependencies({
      database,
      natsUrl: nats.url,
      log: createLogger('broken link', 'silent'),
      signal: new AbortController().signal,
      check: () => checkConfiguredPool(database, LAYOUT),
    });
    await connection.close();
  } finally {
    await database.destroy();
    link.close();
  }
  return link;
}

test('a control plane that starts waits for Postgres, whatever the link breaks off', { skip }, async () => {
  await postgres.database();
  const { passed } = await begin(() => undefined);
  const points = DISTANCES.flatMap((bytes) => [bytes, passed - bytes]);
  const begun = await Promise.allSettled(points.map((bytes) => begin((link) => link.cutAfter(bytes))));
  const failures = begun.flatMap((result, i) =>
    result.status === 'rejected'
      ? [`broken behind ${points[i]} of ${passed} bytes: ${describeError(result.reason)}`]
      : [],
  );
  assert.deepEqual(failures, []);
  const links = begun.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const broken = links.filter(({ accepted }) => accepted > 1).length;
  // What breaks behind the last answer is not noticed.
  assert.ok(broken > points.length / 2, `only ${broken} of ${points.length} links broke`);
});
