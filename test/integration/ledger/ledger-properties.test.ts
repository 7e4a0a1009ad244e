import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import type { LinkState } from './ledger-node.ts';
import { LedgerWorld, NODES, POOLS } from './ledger-world.ts';

/** Interleavings, and the most steps of one; LEDGER_RUNS asks for more. */
const RUNS = Number(process.env.LEDGER_RUNS ?? 15);
const MAX_STEPS = 40;

let postgres: TestPostgres;
let log: TestLog;
let others: Database;
let worlds = 0;

before(async () => {
  postgres = await startTestPostgres();
  log = await TestLog.open(postgres);
  others = createDatabase(createPool(postgres.url(), 'other decider', () => undefined));
});

after(async () => {
  await others?.destroy();
  await postgres?.stop();
});

type Step = (world: LedgerWorld) => Promise<void>;

/** A step with a text that tells it. */
class StepCommand implements fc.AsyncCommand<object, LedgerWorld> {
  private readonly text: string;
  private readonly step: Step;
  constructor(text: string, step: Step) {
    this.text = text;
    this.step = step;
  }
  check = () => true;
  async run(_model: object, world: LedgerWorld): Promise<void> {
    await this.step(world);
    await world.check();
  }
  toString = () => this.text;
}

const node = fc.nat(NODES - 1);
const commands = fc.commands(
  [
    fc.tuple(node, fc.nat(30), fc.constantFrom(...POOLS), fc.nat(1)).map(([n, client, pool, shard]) => {
      const step: Step = (world) => world.connect(n, `client-${client}`, pool, shard);
      return new StepCommand(`connect(${n}, client-${client}, ${pool}, shard ${shard})`, step);
    }),
    fc.tuple(node, node, fc.integer({ min: 20, max: 60 })).map(([from, to, clients]) => {
      // Who comes in place of those who left wants what must rest first.
      const step: Step = async (world) => {
        await world.node(from).stop();
        for (let i = 0; i < clients; i++) await world.connect(to, `mover-${from}-${to}-${i}`, POOLS[0], i % 2);
      };
      return new StepCommand(`move(${from}, ${to}, ${clients})`, step);
    }),
    fc.tuple(node, fc.integer({ min: 5, max: 40 })).map(([n, clients]) => {
      return new StepCommand(`crowd(${n}, ${clients})`, (world) => world.crowd(n, clients));
    }),
    fc.tuple(node, fc.integer({ min: 5, max: 40 }), fc.nat(90)).map(([n, clients, seconds]) => {
      // What its tunnels had has no end on its disk.
      const step: Step = async (world) => {
        await world.crowd(n, clients);
        world.node(n).crash(false);
        await world.pass(seconds * 1_000);
        await world.node(n).start();
      };
      return new StepCommand(`restart(${n}, ${clients}, after ${seconds} s)`, step);
    }),
    fc.tuple(node, fc.nat(50), fc.integer({ min: 1, max: 30 })).map(([n, first, count]) => {
      const step: Step = async (world) => {
        for (let i = 0; i < count && world.node(n).isRunning; i++) await world.node(n).disconnect(first);
      };
      return new StepCommand(`disconnect(${n}, ${first}, ${count})`, step);
    }),
    // Within the rest of an address, about it, and about the end of a lease and what follows it.
    ...[
      [1, 30],
      [50, 130],
      [500, 800],
    ].map(([min = 0, max]) =>
      fc.integer({ min, max: max ?? min }).map((seconds) => {
        const step: Step = (world) => world.pass(seconds * 1_000);
        return new StepCommand(`pass(${seconds} s)`, step);
      }),
    ),
    fc.constant(new StepCommand('look()', (world) => world.lookEverywhere())),
    fc.tuple(node, fc.constantFrom<LinkState>('up', 'cut', 'deaf')).map(([n, link]) => {
      const step: Step = async (world) => {
        world.node(n).link = link;
        await world.node(n).look();
      };
      return new StepCommand(`link(${n}, ${link})`, step);
    }),
    fc
      .tuple(node, fc.boolean())
      .map(
        ([n, losesDisk]) =>
          new StepCommand(`crash(${n}${losesDisk ? ', disk too' : ''})`, async (world) =>
            world.node(n).crash(losesDisk),
          ),
      ),
    node.map((n) => new StepCommand(`start(${n})`, (world) => world.node(n).start())),
    node.map((n) => new StepCommand(`stop(${n})`, (world) => world.node(n).stop())),
    fc
      .tuple(node, fc.integer({ min: 1, max: 60 }), fc.boolean())
      .map(
        ([n, limit, hears]) =>
          new StepCommand(`deliver(${n}, ${limit}, ${hears})`, (world) => world.deliver(n, limit, hears)),
      ),
    fc.nat(1).map((decider) => new StepCommand(`reclaim(${decider})`, (world) => world.reclaim(decider))),
    fc.boolean().map((close) => new StepCommand(`retire(${close})`, (world) => world.retireOffice(close))),
  ],
  { maxCommands: MAX_STEPS, size: 'max' },
);

test('whatever crashes, is cut off or decides at once: no address is held twice or without a grant, everything ends, and all of a pool is accounted for', async () => {
  await fc.assert(
    fc.asyncProperty(commands, async (list) => {
      const world = await LedgerWorld.open(log, others, ++worlds);
      try {
        await fc.asyncModelRun(() => ({ model: {}, real: world }), list);
        await world.finish();
      } finally {
        world.close();
      }
    }),
    { numRuns: RUNS },
  );
});
