// Appends events to a spool without end and prints each sequence once it is acknowledged. For spool-kill.test.ts.
import { writeSync } from 'node:fs';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { Spool } from '../../../data-plane/telemetry/spool.ts';

const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('expected a directory');
const spool = new Spool(new NodeDatabase(directory), { node: 'node-a', incarnation: 'a'.repeat(32) });

async function appendForever(writer: number): Promise<void> {
  for (let i = 0; ; i++) {
    const reason = `writer ${writer} event ${i}`;
    const [event] = await spool.append([{ type: 'node.draining', at: new Date().toISOString(), data: { reason } }]);
    writeSync(1, `${JSON.stringify({ seq: event?.seq, reason })}\n`);
  }
}

await Promise.all([1, 2, 3, 4].map(appendForever));
