import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { QuicNetwork } from './quic-network.ts';

/** As often as the core bears it. */
const MOVES = 62;
let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
});

const peers = ['198.51.100.7:1', '198.51.100.7:2', '198.51.100.7:3', '198.51.100.7:4', '198.51.100.7:5'];
const [first, second, third, fourth, fifth] = peers as [string, string, string, string, string];

test('connections are spread over cells, and each hears and is heard', () => {
  const network = new QuicNetwork(pem);
  for (const peer of peers) network.connect(peer);
  assert.equal(network.server.state().connections, 5);
  assert.equal(new Set([...network.connections.values()].map(({ endpoint }) => endpoint)).size, 3);
  for (const peer of peers) {
    network.say(peer, 'hello');
    network.answer(peer, `to ${peer}`);
    assert.ok(network.log.includes(`${peer} says hello`), network.log.join('\n'));
    assert.deepEqual(network.clients.get(peer)?.received, ['up', `to ${peer}`]);
  }
});

test('clients whose first packets come at once are spread over cells too', () => {
  const network = new QuicNetwork(pem);
  network.connect(...peers);
  assert.equal(network.server.state().connections, 5);
  for (const peer of peers) assert.deepEqual(network.clients.get(peer)?.received, ['up'], peer);
});

test('a core that aborts takes its own connections along and no others, and is replaced', () => {
  const network = new QuicNetwork(pem);
  for (const peer of [first, second, third, fourth]) network.connect(peer);
  const victim = network.connections.get(first)!.endpoint;
  const lost = [first, second, third, fourth].filter((peer) => network.connections.get(peer)!.endpoint === victim);
  const safe = [first, second, third, fourth].filter((peer) => !lost.includes(peer));
  assert.equal(lost.length, 2);
  // Nothing that the core believes of its memory is true any more.
  victim.datagramTarget.fill(0xff);
  network.say(lost[0]!, 'anything');
  assert.equal(network.server.state().abortedCores, 1);
  for (const peer of lost) assert.ok(network.log.includes(`${peer} lost`), network.log.join('\n'));
  for (const peer of safe) {
    network.say(peer, 'still here');
    assert.ok(network.log.includes(`${peer} says still here`), network.log.join('\n'));
    assert.ok(!network.log.includes(`${peer} lost`));
  }
  network.connect(fifth);
  network.say(fifth, 'new');
  assert.ok(network.log.includes(`${fifth} says new`), network.log.join('\n'));
});

test('an abort in the middle of a send is laid to the right core, and other errors to none', () => {
  const network = new QuicNetwork(pem);
  for (const peer of [first, second]) network.connect(peer);
  assert.throws(() => network.server.recover(new Error('something else')), /something else/);
  const { endpoint } = network.connections.get(second)!;
  endpoint.datagramTarget.fill(0xff);
  assert.throws(
    () => network.answer(second, 'anything'),
    (error) => {
      network.server.recover(error);
      return true;
    },
  );
  assert.ok(network.log.includes(`${second} lost`), network.log.join('\n'));
  assert.ok(!network.log.includes(`${first} lost`) || network.connections.get(first)!.endpoint === endpoint);
});

test('no connection is taken beyond the limit, and the others do not notice', () => {
  const network = new QuicNetwork(pem, { maxConnections: 4 });
  for (const peer of peers) network.connect(peer);
  assert.equal(network.server.state().connections, 4);
  assert.deepEqual(network.clients.get(fifth)?.received, []);
  network.say(first, 'still here');
  assert.ok(network.log.includes(`${first} says still here`));
});

test('RFC 9000 9: a client that moves to another address, time and again, keeps its connection and is answered there', () => {
  const network = new QuicNetwork(pem);
  network.connect(first);
  network.connect(second);
  const moved = network.clients.get(first)!;
  const { endpoint, number } = network.connections.get(first)!;
  let from = first;
  for (let port = 1; port <= MOVES; port++) {
    network.clients.delete(from);
    from = `203.0.113.${port % 2}:${port}`;
    network.clients.set(from, moved);
    network.say(from, `from ${port}`);
    assert.ok(network.log.includes(`${first} says from ${port}`), network.log.join('\n'));
    endpoint.datagramTarget.set(Buffer.of(port), endpoint.datagramOffset);
    endpoint.sendDatagram(number, 1);
    network.exchange();
    assert.equal(moved.received.at(-1), String.fromCharCode(port));
  }
  assert.equal(network.server.state().connections, 2);
});

test('the memory of empty cells is given back', () => {
  const network = new QuicNetwork(pem);
  for (const peer of [first, second, third]) network.connect(peer);
  const { memoryBytes } = network.server.state();
  const last = network.connections.get(third)!;
  last.endpoint.closeConnection(last.number, 0x100, 'done');
  for (let i = 0; i < 20 && network.server.state().connections > 2; i++) {
    network.exchange();
    const wait = network.server.timeoutMs(network.nowMs);
    network.nowMs += Math.max(0, wait);
    // The core's own clock is the machine's: its timers have to pass.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(100, Math.max(1, wait)));
    network.server.onTimeout(network.nowMs);
  }
  assert.equal(network.server.state().connections, 2);
  network.exchange();
  network.server.sweep(network.nowMs);
  assert.ok(
    network.server.state().memoryBytes < memoryBytes,
    `${network.server.state().memoryBytes} of ${memoryBytes}`,
  );
});

test('garbage of every form opens nothing', () => {
  const network = new QuicNetwork(pem);
  for (const bytes of [Buffer.alloc(0), Buffer.of(0xc0), Buffer.alloc(30, 0x40), Buffer.alloc(1200, 0xff)]) {
    network.server.receive(bytes, 0, bytes.length, first, network.nowMs);
  }
  network.exchange();
  assert.equal(network.server.state().connections, 0);
});

suite('a renewed identity', () => {
  test('is what new connections see; those that are there live on, and their core goes with the last of them', async () => {
    const network = new QuicNetwork(pem);
    network.connect(first);
    const renewed = await issueTestCertificate(['node-a.test']);
    network.server.renew(renewed);
    network.connectTrusting(renewed.ca, second);
    assert.deepEqual(network.clients.get(second)?.received, ['up']);
    network.connectTrusting(pem.ca, third);
    assert.deepEqual(network.clients.get(third)?.received, []);
    for (const peer of [first, second]) {
      network.say(peer, 'hello');
      network.answer(peer, 'welcome');
      assert.ok(network.log.includes(`${peer} says hello`), network.log.join('\n'));
      assert.equal(network.clients.get(peer)?.received.at(-1), 'welcome');
    }
    assert.equal(network.server.state().cores, 2);
    const { endpoint, number } = network.connections.get(first)!;
    endpoint.closeConnection(number, 0x100, 'done');
    await network.settle(() => network.server.state().cores === 1);
    network.say(second, 'still here');
    assert.ok(network.log.includes(`${second} says still here`));
  });

  test('holds for clients that were sent a Retry too', async () => {
    const network = new QuicNetwork(pem, { retryFrom: 0 });
    network.connect(first);
    const renewed = await issueTestCertificate(['node-a.test']);
    network.server.renew(renewed);
    network.connectTrusting(renewed.ca, second);
    assert.deepEqual(network.clients.get(second)?.received, ['up']);
    network.say(first, 'still here');
    assert.ok(network.log.includes(`${first} says still here`));
  });

  test('that the core refuses changes nothing', () => {
    const network = new QuicNetwork(pem);
    assert.throws(() => network.server.renew({ cert: 'no certificate', key: pem.key }), { code: 'QUIC_CONFIG' });
    network.connect(first);
    assert.deepEqual(network.clients.get(first)?.received, ['up']);
    assert.equal(network.server.state().cores, 1);
  });

  test('comes as often as it likes: a bounded number of old cores stays for their connections, the oldest are given up', async () => {
    const many = Array.from({ length: 12 }, (_, i) => `198.51.100.8:${i + 1}`);
    const network = new QuicNetwork(pem, { maxConnections: 20 });
    for (const peer of many) {
      network.connect(peer);
      network.server.renew(pem);
    }
    await network.settle(() => network.server.state().cores === 9);
    assert.deepEqual(
      many.filter((peer) => network.log.includes(`${peer} closed retired`)),
      many.slice(0, 4),
    );
    for (let i = 0; i < 5; i++) network.server.renew(pem);
    await network.settle(() => network.server.state().cores === 9);
    for (const peer of many.slice(4)) {
      network.say(peer, 'still here');
      assert.ok(network.log.includes(`${peer} says still here`), peer);
    }
  });
});
