import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { createInbox, type NatsConnection } from 'nats';
import { Projector, type ProjectorOptions } from '../../../control-plane/projector/projector.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import { type NatsServer, startNatsServer } from '../../../deploy/local/nats-server.ts';
import { encodeEvents, type VpnEvent } from '../../../shared/events/envelope.ts';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { connectNats } from '../../../shared/nats/connect.ts';
import {
  type Watermark,
  watermarkMessage,
  watermarkRequestMessage,
  watermarkRequestSubject,
  watermarkSubject,
} from '../../../shared/nats/messages.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';
import { EVENT_STREAM, EVENT_STREAM_CONFIG, ensureEventStream } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { connectionOf, established, SampleNode, sampled, totals } from '../../unit/projections/sample-events.ts';
import { beginTerm, counters, startTestPostgres, type TestPostgres } from './projector-database.ts';

const log = createLogger('test', 'silent');
const TIMEOUT_MS = 20_000;
/** Short: what the client library drops during a reconnect is not answered. */
const PUBLISH_TIMEOUT_MS = 1_000;
/** For questions that get no answer. */
const ANSWER_TIMEOUT_MS = 1_000;
/** Longer than a test takes. */
const NEVER_MS = 600_000;
const skip = needsBinary('nats-server', 'nats-server');

let postgres: TestPostgres;
before(async () => {
  if (!skip) postgres = await startTestPostgres();
});
after(async () => postgres?.stop());

interface Question {
  readonly about?: string;
  readonly inboxOf?: string;
  readonly reported?: true;
}

type PipelineOptions = Pick<ProjectorOptions, 'watchdogMs'>;

/** A stream, a database, and the projector between them. */
class Pipeline {
  readonly database: Database;
  readonly nats: NatsConnection;
  readonly projector: Projector;
  readonly watermarks: Watermark[] = [];
  server: NatsServer;
  private term: { ended: Promise<void>; end: AbortController } | undefined;
  private readonly directory: string;

  private constructor(
    database: Database,
    nats: NatsConnection,
    server: NatsServer,
    directory: string,
    options: PipelineOptions,
  ) {
    this.database = database;
    this.nats = nats;
    this.server = server;
    this.directory = directory;
    this.projector = new Projector({ database, nats, log, ...options });
    nats.subscribe(watermarkSubject('node-a'), {
      callback: (_error, message) => void this.watermarks.push(watermarkMessage.decode(message.data)),
    });
  }

  static async open(options: PipelineOptions = {}): Promise<Pipeline> {
    const database = await postgres.database();
    const directory = await mkdtemp(join(tmpdir(), 'projector-nats-'));
    const server = await startNatsServer({ directory });
    const nats = await connectNats(server.url, 'test', log, AbortSignal.timeout(TIMEOUT_MS));
    await ensureEventStream(await nats.jetstreamManager());
    return new Pipeline(database, nats, server, directory, options);
  }

  async startTerm(): Promise<number> {
    const ownerEpoch = await beginTerm(this.database);
    const end = new AbortController();
    this.term = { ended: this.projector.run({ ownerEpoch, signal: end.signal }), end };
    // A rejection is the test's business only where it awaits the end.
    this.term.ended.catch(() => undefined);
    return ownerEpoch;
  }

  async endTerm(): Promise<void> {
    this.term?.end.abort();
    await this.term?.ended;
  }

  /** The end that comes by itself. */
  async endTermWithoutAbort(): Promise<void> {
    await this.term?.ended;
  }

  /** Returns the stream's sequence of the last message. */
  async publish(...messages: ReadonlyArray<readonly VpnEvent[]>): Promise<number> {
    let streamSeq = 0;
    for (const events of messages) {
      const subject = nodeEventSubject(events[0]!.node);
      const options = { timeout: PUBLISH_TIMEOUT_MS };
      streamSeq = (await this.nats.jetstream().publish(subject, encodeEvents(events), options)).seq;
    }
    return streamSeq;
  }

  /** Asks for the watermark of a spool, as node-a does. */
  async ask(epoch: string, { about = 'node-a', inboxOf = 'node-a', ...more }: Question = {}): Promise<Watermark> {
    const request = watermarkRequestMessage.encode({ node: about, epoch, ...more });
    const reply = await this.nats.request(watermarkRequestSubject('node-a'), request, {
      timeout: ANSWER_TIMEOUT_MS,
      noMux: true,
      reply: createInbox(nodeInbox(inboxOf)),
    });
    return watermarkMessage.decode(reply.data);
  }

  /**
   * Publishes events one by one, each when the one before is applied, until another reader of the projector's consumer has taken one.
   * Returns how many are published; the last of them is the one that was taken.
   */
  async publishUntilTaken(ownerEpoch: number, events: readonly VpnEvent[]): Promise<number> {
    const consumer = await this.nats.jetstream().consumers.get(EVENT_STREAM, `projector-${ownerEpoch}`);
    let taken: number | undefined;
    // It gets its turn: the server goes round those who wait.
    const taking = consumer.next({ expires: TIMEOUT_MS }).then((message) => {
      taken = message?.seq;
    });
    for (const [index, event] of events.entries()) {
      const streamSeq = await this.publish([event]);
      const arrived = () => taken !== undefined || this.projector.state().streamSeq === streamSeq;
      await waitFor(arrived, { timeoutMs: TIMEOUT_MS, what: `message ${streamSeq}` });
      if (taken === undefined) continue;
      await taking;
      assert.equal(taken, streamSeq);
      return index + 1;
    }
    throw new Error('the projector got all of them');
  }

  async untilApplied(count: number): Promise<void> {
    const applied = async () => (await this.events()).length === count;
    await waitFor(applied, { timeoutMs: TIMEOUT_MS, what: `${count} events in the log` });
  }

  async events() {
    return await this.database.selectFrom('events').select(['node', 'seq']).orderBy('position').execute();
  }

  async consumers(): Promise<string[]> {
    const manager = await this.nats.jetstreamManager();
    return (await manager.consumers.list(EVENT_STREAM).next()).map(({ name }) => name);
  }

  async close(): Promise<void> {
    await this.endTerm().catch(() => undefined);
    await this.nats.close();
    await this.server.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** `count` events of one node, one connection each after the first. */
function manyEvents(node: SampleNode, count: number): VpnEvent[] {
  return [node.started(0), ...Array.from({ length: count - 1 }, () => established(node, connectionOf('alice'), 1))];
}

const ascending = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

test('what is published is projected, and the node is told what is committed', { skip }, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 120);
    await pipeline.publish(events.slice(0, 70), events.slice(70));
    await pipeline.startTerm();
    await pipeline.untilApplied(120);
    const last = await waitFor(() => pipeline.watermarks.find(({ appliedSeq }) => appliedSeq === 120), {
      timeoutMs: TIMEOUT_MS,
      what: 'the watermark',
    });
    const manager = await pipeline.nats.jetstreamManager();
    const { created } = await manager.streams.info(EVENT_STREAM);
    assert.deepEqual(last, { epoch: node.epoch, appliedSeq: 120, streamSeq: 2, streamCreated: created });
    assert.equal((await counters(pipeline.database))['connections.established'], 119);

    await assert.rejects(pipeline.ask(node.epoch, { about: 'node-b' }), { code: 'TIMEOUT' });
    await assert.rejects(pipeline.ask(node.epoch, { inboxOf: 'node-b' }), { code: 'TIMEOUT' });
    assert.deepEqual(await pipeline.ask(node.epoch), last);
    assert.equal((await pipeline.ask('0'.repeat(32))).appliedSeq, 0);
    const { applied, streamSeq, position } = pipeline.projector.state();
    assert.deepEqual([applied, streamSeq, position], [120, 2, 120]);
  } finally {
    await pipeline.close();
  }
});

test('a node that wants to know is told of the last event of its spool that was heard of, committed or not', {
  skip,
}, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const [unseen, events] = ['0'.repeat(32), manyEvents(node, 7)];
    await pipeline.publish(events.slice(0, 3));
    await pipeline.startTerm();
    await pipeline.untilApplied(3);
    const reportedSeq = async (epoch: string) => (await pipeline.ask(epoch, { reported: true })).reportedSeq;
    assert.deepEqual(await Promise.all([node.epoch, unseen].map(reportedSeq)), [0, 0]);

    const report = (of: string, epoch: string, lastSeq: number) =>
      sql`INSERT INTO spool_reports VALUES (${of}, ${epoch}, ${lastSeq}, now())`.execute(pipeline.database);
    await report('node-a', node.epoch, 5);
    await report('node-a', unseen, 9);
    await report('node-b', node.epoch, 20);
    assert.deepEqual(await Promise.all([node.epoch, unseen].map(reportedSeq)), [5, 9]);
    assert.ok(!('reportedSeq' in (await pipeline.ask(node.epoch))), 'nodes of old refuse what they do not know');

    await pipeline.publish(events.slice(6));
    await waitFor(async () => (await reportedSeq(node.epoch)) === 7, {
      timeoutMs: TIMEOUT_MS,
      what: 'an event that waits for those before it',
    });
  } finally {
    await pipeline.close();
  }
});

test('a new term goes on at the checkpoint: nothing twice, and no consumer of the old one is left', {
  skip,
}, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 60);
    const first = await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 30));
    await pipeline.untilApplied(30);
    assert.deepEqual(await pipeline.consumers(), [`projector-${first}`]);
    await pipeline.endTerm();
    await pipeline.publish(events.slice(30), events.slice(20, 40));
    const second = await pipeline.startTerm();
    await pipeline.untilApplied(60);
    await waitFor(() => pipeline.projector.state().repeats === 20, { timeoutMs: TIMEOUT_MS, what: 'the repeats' });
    assert.deepEqual(await pipeline.consumers(), [`projector-${second}`]);
    assert.equal((await counters(pipeline.database))['connections.established'], 59);
  } finally {
    await pipeline.close();
  }
});

test('two leaders at once: the old one is stopped by its owner epoch, and nothing is applied twice', {
  skip,
}, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 40);
    await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 10));
    await pipeline.untilApplied(10);
    const ownerEpoch = await beginTerm(pipeline.database);
    const end = new AbortController();
    const successor = new Projector({ database: pipeline.database, nats: pipeline.nats, log });
    const running = successor.run({ ownerEpoch, signal: end.signal });
    await pipeline.publish(events.slice(10, 20), events.slice(20), events);
    await pipeline.untilApplied(40);
    await assert.rejects(pipeline.endTermWithoutAbort(), { code: 'NOT_LEADER' });
    end.abort();
    await running;
    assert.equal((await counters(pipeline.database))['connections.established'], 39);
  } finally {
    await pipeline.close();
  }
});

test('NATS dies and returns under traffic: afterwards every event is there once', { skip }, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 200);
    await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 50));
    await pipeline.untilApplied(50);
    await pipeline.server.kill();
    pipeline.server = await pipeline.server.restart();
    const connection = connectionOf('alice');
    const late = sampled(node, 9, [{ ...connection, traffic: totals(10, 20) }]);
    const publish = () => pipeline.publish(events.slice(50, 120), events.slice(120), [late]).then(() => true);
    // A node sends again whatever has no PubAck, so the same messages may be in the stream more than once.
    await waitFor(publish, { timeoutMs: TIMEOUT_MS, what: 'NATS to take events again' });
    await pipeline.untilApplied(201);
    const seqs = (await pipeline.events()).map(({ seq }) => seq);
    assert.deepEqual(seqs, ascending(201));
    const client = await pipeline.database.selectFrom('client_totals').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual([client.bytes_received, client.bytes_sent], [10, 20]);
  } finally {
    await pipeline.close();
  }
});

test('a consumer that is deleted under the projector is built anew', { skip }, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 20);
    const ownerEpoch = await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 10));
    await pipeline.untilApplied(10);
    const manager = await pipeline.nats.jetstreamManager();
    await manager.consumers.delete(EVENT_STREAM, `projector-${ownerEpoch}`);
    await pipeline.publish(events.slice(10));
    await pipeline.untilApplied(20);
    assert.ok(pipeline.projector.state().restarts >= 1);
  } finally {
    await pipeline.close();
  }
});

/** Every event once and in order, whoever else took messages. */
async function assertEachOnce(pipeline: Pipeline, count: number): Promise<void> {
  await pipeline.untilApplied(count);
  const seqs = (await pipeline.events()).map(({ seq }) => seq);
  assert.deepEqual(seqs, ascending(count));
  assert.equal((await counters(pipeline.database))['connections.established'], count - 1);
}

test('a message that another reader took is missed when the next one comes, and read again from the checkpoint', {
  skip,
}, async () => {
  const pipeline = await Pipeline.open({ watchdogMs: NEVER_MS });
  try {
    const events = manyEvents(new SampleNode('node-a'), 20);
    const ownerEpoch = await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 5));
    await pipeline.untilApplied(5);
    const published = await pipeline.publishUntilTaken(ownerEpoch, events.slice(5, 15));
    await pipeline.publish(events.slice(5 + published, 17), events.slice(17));
    await assertEachOnce(pipeline, 20);
    const { restarts, parked, repeats } = pipeline.projector.state();
    assert.deepEqual({ restarts, parked, repeats }, { restarts: 1, parked: 0, repeats: 0 });
  } finally {
    await pipeline.close();
  }
});

test('a message that another reader took is missed by the watchdog when none comes after it', { skip }, async () => {
  const pipeline = await Pipeline.open({ watchdogMs: 250 });
  try {
    const events = manyEvents(new SampleNode('node-a'), 20);
    const ownerEpoch = await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 5));
    await pipeline.untilApplied(5);
    const published = await pipeline.publishUntilTaken(ownerEpoch, events.slice(5));
    await assertEachOnce(pipeline, 5 + published);
    assert.ok(pipeline.projector.state().restarts >= 1);
  } finally {
    await pipeline.close();
  }
});

test('another stream under the same name is read from its first message', { skip }, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 30);
    await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 5), events.slice(5, 10), events.slice(10, 20));
    await pipeline.untilApplied(20);
    const manager = await pipeline.nats.jetstreamManager();
    const before = (await manager.streams.info(EVENT_STREAM)).created;
    await manager.streams.delete(EVENT_STREAM);
    // The projector may have been faster: it makes the stream where there is none.
    await manager.streams.add(EVENT_STREAM_CONFIG).catch(() => undefined);
    await pipeline.publish(events.slice(10));
    await pipeline.untilApplied(30);
    const { created } = await manager.streams.info(EVENT_STREAM);
    assert.notEqual(created, before);
    await waitFor(() => pipeline.watermarks.at(-1)?.streamCreated === created, {
      timeoutMs: TIMEOUT_MS,
      what: 'a watermark of the new stream',
    });
    assert.equal((await counters(pipeline.database))['connections.established'], 29);
  } finally {
    await pipeline.close();
  }
});

test('Postgres dies and returns under traffic: afterwards every event is there once', { skip }, async () => {
  const pipeline = await Pipeline.open();
  try {
    const node = new SampleNode('node-a');
    const events = manyEvents(node, 150);
    await pipeline.startTerm();
    await pipeline.publish(events.slice(0, 40));
    await pipeline.untilApplied(40);
    const [, published] = await Promise.all([
      postgres.crash(),
      pipeline.publish(events.slice(40, 80), events.slice(80)).then(() => true),
    ]);
    assert.ok(published);
    await pipeline.untilApplied(150);
    assert.equal((await counters(pipeline.database))['connections.established'], 149);
  } finally {
    await pipeline.close();
  }
});
