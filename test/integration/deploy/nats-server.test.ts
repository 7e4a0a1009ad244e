import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { connect } from 'nats';
import { type NatsServer, startNatsServer } from '../../../deploy/local/nats-server.ts';
import { needsBinary } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';

const skip = needsBinary('nats-server', 'nats-server');

function open(server: NatsServer, password = new URL(server.url).password) {
  return connect({ servers: `${server.host}:${server.port}`, user: new URL(server.url).username, pass: password });
}

test('nats-server keeps its streams over a stop and a kill', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  let server = await startNatsServer({ directory });
  t.after(() => server.kill());
  let connection = await open(server);
  await (await connection.jetstreamManager()).streams.add({ name: 'KEPT', subjects: ['kept.>'] });
  await connection.jetstream().publish('kept.one', 'hello');
  await connection.close();
  for (const end of ['kill', 'stop'] as const) {
    await server[end]();
    server = await server.restart();
    connection = await open(server);
    const info = await (await connection.jetstreamManager()).streams.info('KEPT');
    assert.equal(info.state.messages, 1);
    await connection.close();
  }
  for (const file of ['password', 'nats-server.conf']) {
    assert.equal(statSync(join(directory, file)).mode & 0o777, 0o600);
  }
});

test('nobody gets in without the password', { skip }, async (t) => {
  const server = await startNatsServer({ directory: temporaryDirectory(t) });
  t.after(() => server.stop());
  await assert.rejects(open(server, 'wrong'), /Authorization/i);
  assert.throws(() => server.nodeUrl('node-a'), /no NATS user for node-a/);
});
