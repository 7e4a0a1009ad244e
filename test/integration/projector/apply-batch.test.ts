import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { ProjectionMemory } from '../../../control-plane/projections/projection-memory.ts';
import { applyBatch, readCheckpoint } from '../../../control-plane/projector/apply-batch.ts';
import { encodeEvents, MAX_EVENTS_PER_MESSAGE, type VpnEvent } from '../../../shared/events/envelope.ts';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import {
  assigned,
  at,
  BLOCK,
  closed,
  connectionOf,
  established,
  released,
  SampleNode,
  sampled,
  totals,
} from '../../unit/projections/sample-events.ts';
import { beginTerm, counters, everything, startTestPostgres, type TestPostgres } from './projector-database.ts';
import { granted, lifeOf, TestLog } from './test-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

test('a tunnel from begin to end: history, traffic, ledger, totals and histograms agree', async () => {
  const log = await TestLog.open(postgres);
  const { database } = log;
  await log.decide(granted('node-a', -60, 3600), {
    type: 'client.enrolled',
    at: at(-30),
    data: { clientId: 'alice', name: 'Alice', pool: 'default', actor: 'admin' },
  });
  const events = lifeOf(new SampleNode('node-a'), 'alice');
  const result = await log.deliver(events.slice(0, 4), events.slice(4));
  assert.equal(result.applied, 8);
  assert.equal(result.position, 10);

  const history = await database.selectFrom('connection_history').selectAll().executeTakeFirstOrThrow();
  assert.equal(history.reason, 'client');
  assert.equal(history.duration_seconds, 11);
  assert.deepEqual(history.addresses, ['10.99.3.7']);
  assert.deepEqual([history.bytes_received, history.bytes_sent], [6500, 627_000]);

  const client = await database.selectFrom('client_totals').selectAll().executeTakeFirstOrThrow();
  assert.deepEqual([client.bytes_received, client.bytes_sent], [6500, 627_000]);
  assert.deepEqual([client.packets_received, client.packets_sent], [7, 627]);
  const usage = await database.selectFrom('usage_daily').selectAll().execute();
  assert.deepEqual(usage, [
    {
      day: '2026-03-02',
      client_id: 'alice',
      node: 'node-a',
      bytes_sent: 627_000,
      bytes_received: 6500,
      packets_sent: 627,
      packets_received: 7,
      connections: 1,
    },
  ]);
  assert.deepEqual(await counters(database), {
    'connections.established': 1,
    'connections.failed': 3,
    'connections.closed': 1,
    'errors.connection': 0,
    'errors.packet': 2,
    'errors.auth': 3,
    'errors.other': 1,
  });
  const histograms = await database.selectFrom('client_histograms').selectAll().orderBy('quantile').execute();
  assert.deepEqual(
    histograms.map(({ family, quantile, sum, count }) => [family, quantile, Number(sum), count]),
    [
      ['connection_duration_seconds', '', 11, 1],
      ['latency_ms', '0.5', 1.5, 1],
      ['latency_ms', '0.95', 4, 1],
      ['latency_ms', '0.99', 9, 1],
    ],
  );
  const ledger = await database.selectFrom('ip_ledger').select(['entry', 'position']).orderBy('id').execute();
  assert.deepEqual(
    ledger.map(({ entry, position }) => [entry, position]),
    [
      ['granted', 1],
      ['assigned', 5],
      ['released', 9],
    ],
  );
  const log_ = await database.selectFrom('events').select('position').orderBy('position').execute();
  assert.deepEqual(
    log_.map(({ position }) => position),
    Array.from({ length: 10 }, (_, index) => index + 1),
  );
  const outbox = await database.selectFrom('outbox').select(['seq', 'envelope']).orderBy('seq').execute();
  assert.deepEqual(
    outbox.map(({ seq, envelope }) => [seq, envelope.type]),
    [
      [1, 'block.granted'],
      [2, 'client.enrolled'],
    ],
  );
});

test('who held an address at a moment, on which node, until when and why: one row', async () => {
  const log = await TestLog.open(postgres);
  await log.decide(granted('node-a', -60, 3600));
  const node = new SampleNode('node-a');
  const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
  await log.deliver([node.started(0), assigned(node, alice, 10), released(node, alice, 20), assigned(node, bob, 90)]);
  const [holder, ...others] = await log.holders('10.99.3.7', 14);
  assert.deepEqual(others, []);
  assert.deepEqual(holder, {
    client_id: 'alice',
    node: 'node-a',
    connection_id: alice.connectionId,
    held_from: new Date(at(10)),
    held_until: new Date(at(20)),
    end_reason: 'client',
    block: BLOCK.block,
    pool: BLOCK.pool,
  });
  assert.deepEqual(await log.holders('10.99.3.7', 20), []);
  const [present] = await log.holders('10.99.3.7', 100);
  assert.deepEqual([present?.client_id, present?.held_until], ['bob', null]);
});

test('every event twice, one a message and in the wrong order: the same rows', async () => {
  const node = new SampleNode('node-a');
  const events = [...lifeOf(node, 'alice'), ...lifeOf(node, 'bob').slice(1)];
  const once = await TestLog.open(postgres);
  await once.deliver(events);
  const twice = await TestLog.open(postgres);
  const result = await twice.deliver(...events.toReversed().flatMap((event) => [[event], [event]]));
  assert.equal(result.repeats, events.length);
  assert.deepEqual(await everything(twice.database), await everything(once.database));
  const again = await twice.deliver(events);
  assert.deepEqual([again.applied, again.repeats], [0, events.length]);
  assert.deepEqual(await everything(twice.database), await everything(once.database));
});

test('how far a clock is ahead is told by the newest event that was applied, not by repeats', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const begin = Date.now();
  const timed = (event: VpnEvent, ms: number) => ({ ...event, at: new Date(begin + ms).toISOString() }) as VpnEvent;
  const events = [timed(node.started(0), -60_000), timed(established(node, connectionOf('a'), 1), 30_000)];
  const first = await log.deliver(events);
  const ahead = first.aheadSeconds.get('node-a') ?? Number.NaN;
  assert.ok(ahead <= 30 && ahead > 20, `${ahead}`);
  assert.deepEqual([...(await log.deliver(events)).aheadSeconds], []);
});

test('an event that comes early waits for those before it, over commits', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const connection = connectionOf('alice');
  const [first, second, third] = [
    node.started(0),
    established(node, connection, 1),
    closed(node, connection, 2, totals(1, 1)),
  ];
  const early = await log.deliver([third]);
  assert.deepEqual([early.applied, early.parked], [0, 1]);
  assert.deepEqual(early.epochs, [{ node: 'node-a', epoch: node.epoch, appliedSeq: 0 }]);
  assert.equal((await log.deliver([third])).parked, 0);
  const rest = await log.deliver([first], [second]);
  assert.equal(rest.applied, 3);
  assert.deepEqual(rest.epochs, [{ node: 'node-a', epoch: node.epoch, appliedSeq: 3 }]);
  assert.deepEqual(await log.database.selectFrom('parked_events').selectAll().execute(), []);
  assert.equal((await log.connection(connection.connectionId)).state, 'closed');
});

test('thousands of parked events cost a batch nothing while they wait, and are read once when their turn comes', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const events = Array.from({ length: 5_001 }, (_, i) => node.event('node.draining', i, { reason: 'waits' }));
  const hole = 2_500;
  const [first, ...later] = events.filter((_, i) => i !== hole);
  const messages = Array.from({ length: 49 }, (_, i) =>
    later.slice(i * MAX_EVENTS_PER_MESSAGE).slice(0, MAX_EVENTS_PER_MESSAGE),
  );
  assert.equal((await log.deliver(...messages)).parked, 4_900);
  assert.ok(first);
  const read = log.countRows();
  for (const event of later.slice(4_900)) {
    assert.equal((await log.deliver([event, later[7] as VpnEvent])).parked, 1);
  }
  assert.ok(read.rows < 100 * 10, `${read.rows} rows for 100 batches`);
  assert.equal(read.envelopes, 0);
  // Behind the hole they go on waiting.
  assert.equal((await log.deliver([first])).applied, hole);
  assert.equal(read.envelopes, hole - 1);
  assert.equal((await log.deliver([first, events[hole] as VpnEvent])).applied, events.length - hole);
  assert.equal(read.envelopes, events.length - 2);
  const { rows } = await sql<{ seq: number }>`SELECT seq FROM events WHERE node = 'node-a' ORDER BY position`.execute(
    log.database,
  );
  assert.deepEqual(
    rows.map(({ seq }) => seq),
    events.map(({ seq }) => seq),
  );
  assert.deepEqual(await log.database.selectFrom('parked_events').selectAll().execute(), []);
});

test('a new spool: what the old one lacks is a gap, and what waited behind it is applied', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const connection = connectionOf('alice');
  const old = node.epoch;
  const events = [
    node.started(0),
    established(node, connection, 1),
    sampled(node, 2, []),
    assigned(node, connection, 3),
  ];
  await log.deliver([events[0]!, events[1]!, events[3]!]);
  node.loseSpool();
  const result = await log.deliver([node.started(60)]);
  assert.deepEqual([result.applied, result.gaps], [2, 1]);
  const gaps = await log.database.selectFrom('event_gaps').selectAll().execute();
  assert.deepEqual(
    gaps.map(({ epoch, from_seq, to_seq, replaced_by }) => [epoch, from_seq, to_seq, replaced_by]),
    [[old, 3, 3, node.epoch]],
  );
  assert.deepEqual(await log.database.selectFrom('parked_events').selectAll().execute(), []);
  const row = await log.connection(connection.connectionId);
  assert.deepEqual([row.state, row.reason], ['closed', 'error'], 'the new process closes what the old one left open');
});

test('an event with text that Postgres cannot store is set aside alone, and counts as applied', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const connections = Array.from({ length: 20 }, () => connectionOf('alice'));
  const events = [node.started(0), ...connections.map((connection) => established(node, connection, 1))];
  const poison = node.event('node.draining', 2, { reason: 'a NUL: \0' });
  const more = connections.map((connection) => closed(node, connection, 3, totals(10, 10)));
  const result = await log.deliver([...events, poison, ...more]);
  assert.deepEqual([result.applied, result.deadLetters], [41, 1]);
  assert.deepEqual(result.epochs, [{ node: 'node-a', epoch: node.epoch, appliedSeq: 42 }]);
  assert.equal((await counters(log.database))['connections.closed'], 20);
  const letter = await log.database.selectFrom('dead_letter').selectAll().executeTakeFirstOrThrow();
  assert.deepEqual([letter.node, letter.seq, letter.type, letter.stream_seq], ['node-a', 22, 'node.draining', 1]);
  assert.deepEqual(
    [letter.error_code, letter.error],
    ['UNSTORABLE_VALUE', String.raw`"\\u0000" is no text of Postgres`],
  );
  assert.deepEqual(JSON.parse(letter.payload.toString()), poison);
  const { max } = await log.database
    .selectFrom('events')
    .select(({ fn }) => fn.max('position').as('max'))
    .executeTakeFirstOrThrow();
  assert.equal(max, 41, 'no hole in the positions');
});

test('what only looks like text that Postgres cannot store is stored as it is', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const halves = ['\ud83d', '\ude00', String.raw`\\`.concat('\0')];
  const whole = [String.raw`\u0000`, String.raw`\\ud83d`, '\u{1f600}', '\\'];
  const draining = [...halves, ...whole].map((reason) => node.event('node.draining', 2, { reason }));
  const result = await log.deliver([node.started(0), ...draining]);
  assert.deepEqual([result.applied, result.deadLetters], [1 + whole.length, halves.length]);
  const { rows } = await sql<{ reason: string }>`
    SELECT data->>'reason' AS reason FROM events WHERE type = 'node.draining' ORDER BY position`.execute(log.database);
  assert.deepEqual(
    rows.map(({ reason }) => reason),
    whole,
  );
});

test('an event that breaks a rule or a limit of Postgres is set aside; what is no fault of an event stops the batch', async () => {
  const log = await TestLog.open(postgres);
  // Fails with the SQLSTATE that the event asks for.
  await sql`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = NEW.data->>'reason'; END $$`.execute(log.database);
  await sql`
    CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.type = 'node.draining')
    EXECUTE FUNCTION refuse()`.execute(log.database);
  const node = new SampleNode('node-a');
  const draining = (code: string) => node.event('node.draining', 1, { reason: code });
  const codes = ['21000', '22000', '23000', '54000', '54001', 'P0001'];
  const result = await log.deliver([node.started(0), ...codes.map(draining), established(node, connectionOf('a'), 2)]);
  assert.deepEqual([result.applied, result.deadLetters], [2, codes.length]);
  const letters = await log.database.selectFrom('dead_letter').select('error_code').orderBy('error_code').execute();
  assert.deepEqual(
    letters.map(({ error_code: code }) => code),
    codes,
  );
  const next = draining('00000');
  for (const code of ['53100', '57014', '40001', '42P01']) {
    await assert.rejects(log.deliver([{ ...next, data: { reason: code } } as VpnEvent]), { code });
  }
});

test('poison that has to wait first does not stop the rest either', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const first = node.started(0);
  const poison = node.event('node.draining', 2, { reason: 'a NUL: \0' });
  assert.equal((await log.deliver([poison])).parked, 1);
  const result = await log.deliver([first]);
  assert.deepEqual([result.applied, result.deadLetters], [1, 1]);
});

test('a time that Postgres does not have stops nothing', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const poison = { ...node.started(0), at: '0000-01-01T00:00:00.000Z' };
  const result = await log.deliver([poison, node.started(1)]);
  assert.deepEqual([result.applied, result.deadLetters], [1, 1]);
});

test('what cannot be read, or comes from another node than its subject says, is set aside', async () => {
  const log = await TestLog.open(postgres);
  const [mine, foreign] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const unknown = { ...mine.started(1), type: 'node.exploded' } as unknown as VpnEvent;
  const badTime = sampled(mine, 2, []);
  const result = await log.deliverRaw(
    { subject: nodeEventSubject('node-a'), data: Buffer.from('{nonsense') },
    {
      subject: nodeEventSubject('node-a'),
      data: encodeEvents([unknown, foreign.started(0), { ...badTime, at: '2026-02-31T00:00:00.000Z' }]),
    },
    { subject: 'vpn.events.stranger', data: encodeEvents([mine.started(3)]) },
    { subject: 'vpn.events.control', data: Buffer.from('read back, and applied when it was decided') },
  );
  assert.deepEqual([result.applied, result.deadLetters], [0, 5]);
  assert.deepEqual(result.epochs, [{ node: 'node-a', epoch: mine.epoch, appliedSeq: 2 }]);
  const letters = await log.database.selectFrom('dead_letter').select(['error_code', 'seq', 'stream_seq']).execute();
  assert.deepEqual(
    letters.map(({ error_code, seq, stream_seq }) => [error_code, seq, stream_seq]).sort(),
    [
      ['FOREIGN_NODE', null, 2],
      ['FOREIGN_SUBJECT', null, 3],
      ['INVALID_EVENT', 1, 2],
      ['INVALID_EVENT', 2, 2],
      ['INVALID_EVENT', null, 1],
    ].sort(),
  );
});

test('a node cannot speak for the connection of another', async () => {
  const log = await TestLog.open(postgres);
  const [owner, thief] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const connection = connectionOf('alice');
  await log.deliver([owner.started(0), established(owner, connection, 1)]);
  const result = await log.deliver([
    thief.started(0),
    closed(thief, connection, 2, totals(9, 9)),
    sampled(thief, 3, []),
  ]);
  assert.deepEqual([result.applied, result.deadLetters], [2, 1]);
  assert.equal((await log.connection(connection.connectionId)).state, 'open');
});

test('an assignment that overlaps goes to the conflicts with both events, and stops nothing', async () => {
  const log = await TestLog.open(postgres);
  const [a, b] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
  await log.deliver([a.started(0), assigned(a, alice, 10)]);
  const result = await log.deliver([
    b.started(0),
    assigned(b, bob, 15),
    assigned(b, bob, 16, '10.99.3.8'),
    released(b, bob, 30),
  ]);
  assert.deepEqual([result.applied, result.deadLetters], [4, 0]);
  const [conflict, ...others] = await log.database.selectFrom('address_conflicts').selectAll().execute();
  assert.deepEqual(others, []);
  assert.deepEqual(
    [conflict?.position, conflict?.client_id, conflict?.holder_position, conflict?.holder_client_id],
    [4, 'bob', 2, 'alice'],
  );
  assert.equal((await log.holders('10.99.3.7', 40))[0]?.client_id, 'alice');
  assert.equal((await log.holders('10.99.3.8', 40))[0]?.client_id, 'bob');
});

test('presumed closed is provisional: the address stays held, and the same process reopens it', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const connection = connectionOf('alice');
  await log.deliver([node.started(0), established(node, connection, 1), assigned(node, connection, 1)]);
  await log.decide(
    { type: 'node.lost', at: at(30), data: { node: 'node-a', incarnation: node.incarnation, lastSeenAt: at(20) } },
    { type: 'connection.presumed_closed', at: at(30), data: { ...connection, node: 'node-a', reason: 'node_lost' } },
  );
  assert.equal((await log.connection(connection.connectionId)).state, 'presumed');
  assert.equal((await counters(log.database))['connections.closed'], 0);
  assert.equal((await log.holders('10.99.3.7', 40))[0]?.held_until, null);

  await log.deliver([sampled(node, 19, [{ ...connection, traffic: totals(100, 0) }])]);
  const before = await log.connection(connection.connectionId);
  assert.deepEqual([before.state, before.bytes_in], ['presumed', 100], 'written before the silence');
  await log.deliver([sampled(node, 45, [])]);
  assert.equal(
    (await log.connection(connection.connectionId)).state,
    'open',
    'any event of the process is a sign of life',
  );
  const row = await log.database.selectFrom('nodes').selectAll().executeTakeFirstOrThrow();
  assert.deepEqual([row.state, row.lost_at], ['up', null]);
  await log.deliver([closed(node, connection, 50, totals(100, 0)), released(node, connection, 50)]);
  assert.equal((await counters(log.database))['connections.closed'], 1);
});

test('a new process makes a presumed close final once; the address is free since the last sign of the old one', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
  await log.deliver([
    node.started(0),
    established(node, alice, 1),
    assigned(node, alice, 1),
    sampled(node, 11, [{ ...alice, traffic: totals(500, 500) }]),
  ]);
  await log.decide({
    type: 'connection.presumed_closed',
    at: at(30),
    data: { ...alice, node: 'node-a', reason: 'node_lost' },
  });
  await log.deliver([node.started(60), established(node, bob, 61), assigned(node, bob, 61)]);
  const row = await log.connection(alice.connectionId);
  assert.deepEqual([row.state, row.reason, row.closed_at], ['closed', 'node_lost', new Date(at(11))]);
  assert.equal(row.duration_ms, 10_000);
  const all = await counters(log.database);
  assert.deepEqual([all['connections.established'], all['connections.closed']], [2, 1]);
  assert.equal((await log.holders('10.99.3.7', 5))[0]?.end_reason, 'node_lost');
  assert.equal((await log.holders('10.99.3.7', 62))[0]?.client_id, 'bob');
  assert.deepEqual(await log.database.selectFrom('address_conflicts').selectAll().execute(), []);
});

test('a reclaimed block ends its assignments at the end of the lease, and a late release only moves that earlier', async () => {
  const log = await TestLog.open(postgres);
  const [a, b] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const [alice, bob, carol] = [connectionOf('alice'), connectionOf('bob'), connectionOf('carol')];
  await log.decide(granted('node-a', 0, 100));
  await log.deliver([a.started(1), established(a, alice, 2), assigned(a, alice, 2)]);
  await log.decide(
    { type: 'block.reclaimed', at: at(220), data: { ...BLOCK, node: 'node-a', leaseEnd: at(100) } },
    granted('node-b', 300, 3900),
  );
  const row = await log.connection(alice.connectionId);
  assert.deepEqual([row.state, row.reason, row.closed_at], ['closed', 'node_lost', new Date(at(100))]);
  assert.equal((await counters(log.database))['connections.closed'], 1);
  assert.equal((await log.holders('10.99.3.7', 50))[0]?.end_reason, 'reclaimed');

  await log.deliver([b.started(290), assigned(b, bob, 310), assigned(b, bob, 310, '10.99.3.8')]);
  // What node-a wrote while it was cut off.
  const result = await log.deliver([
    assigned(a, carol, 60, '10.99.3.8'),
    closed(a, alice, 95, totals(10, 10), 93),
    released(a, alice, 95),
  ]);
  assert.deepEqual([result.applied, result.deadLetters], [3, 0]);
  assert.deepEqual(await log.database.selectFrom('address_conflicts').selectAll().execute(), []);
  const [first] = await log.holders('10.99.3.7', 50);
  assert.deepEqual([first?.held_until, first?.end_reason], [new Date(at(95)), 'client']);
  assert.deepEqual((await log.holders('10.99.3.8', 70))[0]?.held_until, new Date(at(100)));
  assert.equal((await log.holders('10.99.3.8', 320))[0]?.client_id, 'bob');
  assert.equal((await counters(log.database))['connections.closed'], 1);
  assert.equal((await log.connection(alice.connectionId)).reason, 'client');
});

test('what a node that was cut off assigned before and after it started anew does not conflict, however it reaches the log', async () => {
  const outcomes: unknown[] = [];
  for (const size of [1, 2, 4, 100]) {
    const log = await TestLog.open(postgres);
    const node = new SampleNode('node-a');
    const [alice, bob, carol] = [connectionOf('alice'), connectionOf('bob'), connectionOf('carol')];
    await log.decide(granted('node-a', 0, 100));
    await log.deliver([node.started(1)]);
    await log.decide({ type: 'block.reclaimed', at: at(220), data: { ...BLOCK, node: 'node-a', leaseEnd: at(100) } });
    const late = [
      established(node, alice, 10),
      assigned(node, alice, 10),
      established(node, carol, 20),
      assigned(node, carol, 20, '10.99.3.8'),
      node.started(30),
      established(node, bob, 95),
      assigned(node, bob, 95),
      released(node, bob, 98),
      closed(node, bob, 98, totals(1, 1)),
    ];
    for (let i = 0; i < late.length; i += size) await log.deliver(late.slice(i, i + size));
    assert.deepEqual(await log.database.selectFrom('address_conflicts').selectAll().execute(), []);
    const { rows: assignments } = await sql`
      SELECT client_id, host(address) AS address, lower(during) AS since, upper(during) AS until, end_reason
      FROM address_assignments ORDER BY assigned_position`.execute(log.database);
    const { rows: releases } = await sql`
      SELECT client_id, at FROM ip_ledger WHERE entry = 'released' ORDER BY position, address`.execute(log.database);
    outcomes.push({ assignments, releases });
  }
  const time = (seconds: number) => new Date(at(seconds));
  // A process that died says nothing of its end; the last that is known of it is what it wrote at 20 s.
  const expected = {
    assignments: [
      { client_id: 'alice', address: '10.99.3.7', since: time(10), until: time(20), end_reason: 'error' },
      { client_id: 'carol', address: '10.99.3.8', since: time(20), until: time(20.001), end_reason: 'error' },
      { client_id: 'bob', address: '10.99.3.7', since: time(95), until: time(98), end_reason: 'client' },
    ],
    releases: [
      { client_id: 'alice', at: time(20) },
      { client_id: 'carol', at: time(20.001) },
      { client_id: 'bob', at: time(98) },
    ],
  };
  for (const outcome of outcomes) assert.deepEqual(outcome, expected);
});

test('who loses an address with its block loses those in other blocks too, and they can be given again', async () => {
  const other = { block: '10.99.4.0/24', pool: BLOCK.pool };
  const outcomes: unknown[] = [];
  for (const isSplit of [false, true]) {
    const log = await TestLog.open(postgres);
    const node = new SampleNode('node-a');
    const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
    const inOther = (connection: typeof alice, seconds: number) =>
      node.event('address.assigned', seconds, { ...connection, address: '10.99.4.9', ...other });
    await log.decide(granted('node-a', 0, 100));
    await log.decide({ type: 'block.granted', at: at(0), data: { ...other, node: 'node-a', leaseEnd: at(900) } });
    const first = [node.started(1), established(node, alice, 2), assigned(node, alice, 2), inOther(alice, 2)];
    for (const events of isSplit ? first.map((event) => [event]) : [first]) await log.deliver(events);
    await log.decide({ type: 'block.reclaimed', at: at(220), data: { ...BLOCK, node: 'node-a', leaseEnd: at(100) } });
    const second = [node.started(300), established(node, bob, 301), inOther(bob, 301)];
    for (const events of isSplit ? second.map((event) => [event]) : [second]) await log.deliver(events);
    assert.deepEqual(await log.database.selectFrom('address_conflicts').selectAll().execute(), []);
    const { rows } = await sql`
      SELECT client_id, host(address) AS address, lower(during) AS since, upper(during) AS until, end_reason
      FROM address_assignments ORDER BY assigned_position`.execute(log.database);
    outcomes.push(rows);
  }
  const time = (seconds: number) => new Date(at(seconds));
  const expected = [
    { client_id: 'alice', address: '10.99.3.7', since: time(2), until: time(100), end_reason: 'reclaimed' },
    { client_id: 'alice', address: '10.99.4.9', since: time(2), until: time(100), end_reason: 'node_lost' },
    { client_id: 'bob', address: '10.99.4.9', since: time(301), until: null, end_reason: null },
  ];
  assert.deepEqual(outcomes, [expected, expected]);
});

test('a lease that ended before that of the block which took its connection ends what it gave earlier', async () => {
  const other = { block: '10.99.4.0/24', pool: BLOCK.pool };
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const alice = connectionOf('alice');
  await log.decide(granted('node-a', 0, 100));
  await log.decide({ type: 'block.granted', at: at(0), data: { ...other, node: 'node-a', leaseEnd: at(90) } });
  await log.deliver([
    node.started(1),
    established(node, alice, 2),
    assigned(node, alice, 2),
    node.event('address.assigned', 2, { ...alice, address: '10.99.4.9', ...other }),
  ]);
  await log.decide({ type: 'block.reclaimed', at: at(220), data: { ...BLOCK, node: 'node-a', leaseEnd: at(100) } });
  await log.decide({ type: 'block.reclaimed', at: at(221), data: { ...other, node: 'node-a', leaseEnd: at(90) } });
  const { rows } = await sql`
    SELECT host(address) AS address, upper(during) AS until, end_reason FROM address_assignments ORDER BY address`.execute(
    log.database,
  );
  assert.deepEqual(rows, [
    { address: '10.99.3.7', until: new Date(at(100)), end_reason: 'reclaimed' },
    { address: '10.99.4.9', until: new Date(at(90)), end_reason: 'reclaimed' },
  ]);
});

test('what a clock far ahead of its lease assigns is decided alike, whatever shares its batch', async () => {
  const node = new SampleNode('node-a');
  const [bob, carol, dave] = [connectionOf('bob'), connectionOf('carol'), connectionOf('dave')];
  const early = [node.started(1), assigned(node, bob, 60)];
  const late = [assigned(node, dave, 105, '10.99.3.9'), assigned(node, carol, 86_400)];
  const outcomes = [];
  for (const batches of [[late], late.map((event) => [event])]) {
    const log = await TestLog.open(postgres);
    await log.decide(granted('node-a', 0, 100));
    await log.deliver(early);
    await log.decide({ type: 'block.reclaimed', at: at(220), data: { ...BLOCK, node: 'node-a', leaseEnd: at(100) } });
    for (const events of batches) await log.deliver(events);
    const { rows } = await sql`
      SELECT client_id, address, during FROM address_assignments ORDER BY assigned_position`.execute(log.database);
    assert.deepEqual(await log.database.selectFrom('dead_letter').selectAll().execute(), []);
    outcomes.push(rows);
  }
  assert.equal(outcomes[0]?.length, 3);
  assert.deepEqual(outcomes[0], outcomes[1]);
});

test('an address that goes from one pool to another within a batch is released in the first and held in the second', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
  await log.deliver([node.started(0), assigned(node, alice, 10)]);
  await log.deliver([
    released(node, alice, 20),
    node.event('address.assigned', 30, { ...bob, address: '10.99.3.7', ...BLOCK, pool: '10.99.2.0/23' }),
  ]);
  const held = await log.database
    .selectFrom('held')
    .select(['pool', 'client_id', 'released_at'])
    .orderBy('pool')
    .execute();
  assert.deepEqual(held, [
    { pool: '10.99.0.0/16', client_id: 'alice', released_at: new Date(at(20)) },
    { pool: '10.99.2.0/23', client_id: 'bob', released_at: null },
  ]);
});

test('windows ahead of an event that cannot be applied count once, in the totals and for the report of the end', async () => {
  const log = await TestLog.open(postgres);
  const [a, b] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const alice = connectionOf('alice');
  await log.deliver([a.started(0), established(a, alice, 1), sampled(a, 5, [{ ...alice, traffic: totals(100, 0) }])]);
  const result = await log.deliver(
    [sampled(a, 10, [{ ...alice, traffic: totals(100, 0) }])],
    [b.started(8), closed(b, alice, 9, totals(1, 1))],
    [sampled(a, 15, [{ ...alice, traffic: totals(50, 0) }])],
  );
  assert.deepEqual([result.applied, result.deadLetters], [3, 1]);
  await log.deliver([closed(a, alice, 20, totals(400, 0))]);
  const windows = await log.database.selectFrom('traffic').select(['kind', 'bytes_in']).orderBy('position').execute();
  assert.deepEqual(
    windows.map(({ kind, bytes_in: bytes }) => [kind, bytes]),
    [
      ['window', 100],
      ['window', 100],
      ['window', 50],
      ['close', 150],
    ],
  );
  const client = await log.database.selectFrom('client_totals').select('bytes_received').executeTakeFirstOrThrow();
  assert.equal(client.bytes_received, 400);
});

test('a block cannot be granted twice, whatever decides it', async () => {
  const log = await TestLog.open(postgres);
  await log.decide(granted('node-a', 0, 3600));
  await assert.rejects(log.decide(granted('node-b', 10, 3600)), { code: '23P01' });
  assert.deepEqual((await log.database.selectFrom('outbox').select('seq').execute()).length, 1);
});

test('nobody writes for a term that is over', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([node.started(0)]);
  await beginTerm(log.database);
  const before = await everything(log.database);
  await assert.rejects(log.deliver([sampled(node, 5, [])]), { code: 'NOT_LEADER' });
  await assert.rejects(log.decide(granted('node-a', 0, 1)), { code: 'NOT_LEADER' });
  assert.deepEqual(await everything(log.database), before);
});

test('a batch that begins elsewhere than at the checkpoint is refused whole', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const from = await readCheckpoint(log.database);
  await log.deliver([node.started(0)]);
  const to = { streamCreated: 'stream', streamSeq: 1 };
  await assert.rejects(applyBatch(log.database, log.ownerEpoch, from, to, [], { memory: new ProjectionMemory() }), {
    code: 'CHECKPOINT_MOVED',
  });
});

test('the ledger is append-only', async () => {
  const log = await TestLog.open(postgres);
  await log.decide(granted('node-a', 0, 3600));
  await assert.rejects(sql`DELETE FROM ip_ledger`.execute(log.database), /append-only/);
  await assert.rejects(sql`UPDATE ip_ledger SET node = 'x'`.execute(log.database), /append-only/);
});

test('every table and column says in the database what it means', async () => {
  const { database } = await TestLog.open(postgres);
  const { rows } = await sql<{ name: string }>`
    SELECT c.relname || '.' || coalesce(a.attname, '') AS name
    FROM pg_class c
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
      AND c.relname NOT LIKE 'kysely%'
      AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)`.execute(database);
  assert.deepEqual(rows, []);
});

test('partitions are made ahead of the log', async () => {
  const log = await TestLog.open(postgres);
  await sql`UPDATE event_checkpoint SET position = 2999999`.execute(log.database);
  const node = new SampleNode('node-a');
  assert.equal((await log.deliver([node.started(0), sampled(node, 5, [])])).position, 3_000_001);
  const { rows } = await sql<{ relname: string }>`
    SELECT relname FROM pg_class WHERE relname ~ '^events_\\d+$' ORDER BY 1`.execute(log.database);
  assert.equal(rows.at(-1)?.relname, 'events_000005000000');
});
