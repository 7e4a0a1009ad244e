import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { EventFd } from '../../../data-plane/os/event-fd.ts';
import { type LoopTurn, PacketLoop } from '../../../data-plane/packet-thread/packet-loop.ts';

const turn = (changes: Partial<LoopTurn> = {}): LoopTurn => ({
  endTurn: () => {},
  timeoutMs: () => -1,
  onTimeout: () => {},
  recover: (error) => {
    throw error;
  },
  ...changes,
});

suite('the packet loop', () => {
  test('messages that came with one that failed are still taken', (t) => {
    const wake = EventFd.create();
    t.after(() => wake.close());
    const messages = ['fails', 'next', 'stop'];
    const taken: string[] = [];
    const loop = new PacketLoop(wake, () => {
      for (let message = messages.shift(); message !== undefined; message = messages.shift()) {
        taken.push(message);
        if (message === 'fails') throw new Error('a fault that can be mended');
        if (message === 'stop') loop.stop();
      }
    });
    const mended: unknown[] = [];
    wake.signal();
    loop.run(turn({ recover: (error) => mended.push(error) }));
    assert.deepEqual(taken, ['fails', 'next', 'stop']);
    assert.equal(mended.length, 1);
  });

  test('what cannot be mended ends the loop', (t) => {
    const wake = EventFd.create();
    t.after(() => wake.close());
    const loop = new PacketLoop(wake, () => {
      throw new Error('for good');
    });
    wake.signal();
    assert.throws(() => loop.run(turn()), /for good/);
  });

  test('a source is drained while it says that there is more, and the turn ends before each wait', (t) => {
    const wake = EventFd.create();
    const source = EventFd.create();
    t.after(() => wake.close());
    t.after(() => source.close());
    const steps: string[] = [];
    const loop = new PacketLoop(wake, () => {});
    let left = 3;
    loop.addSource(source.fd, () => {
      steps.push('drain');
      source.drain();
      if (--left === 0) loop.stop();
      return left > 0;
    });
    source.signal();
    loop.run(turn({ endTurn: () => steps.push('end') }));
    assert.deepEqual(steps, ['drain', 'drain', 'drain', 'end']);
  });
});
