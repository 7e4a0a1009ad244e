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

  test('a source is drained once a turn, and again after it while it is readable', (t) => {
    const wake = EventFd.create();
    const source = EventFd.create();
    t.after(() => wake.close());
    t.after(() => source.close());
    const steps: string[] = [];
    const loop = new PacketLoop(wake, () => {});
    let left = 3;
    loop.add(source.fd, {
      drain: () => {
        steps.push('drain');
        if (--left > 0) return;
        source.drain();
        loop.stop();
      },
    });
    source.signal();
    loop.run(turn({ endTurn: () => steps.push('end') }));
    assert.deepEqual(steps, ['drain', 'end', 'drain', 'end', 'drain', 'end']);
  });

  test('sources come and go while one of them is handled, and each is told of room to write while it asks for it', (t) => {
    const wake = EventFd.create();
    const [first, second, third] = [EventFd.create(), EventFd.create(), EventFd.create()];
    t.after(() => [wake, first, second, third].map((event) => event.close()));
    const steps: string[] = [];
    const loop = new PacketLoop(wake, () => {});
    const drains = (event: EventFd, name: string, also: () => void) => ({
      drain: () => {
        steps.push(name);
        event.drain();
        also();
      },
    });
    // The second one is readable too, but the first takes it away, and the third gets its place.
    loop.add(
      first.fd,
      drains(first, 'first', () => {
        loop.remove(second.fd);
        loop.add(third.fd, {
          ...drains(third, 'third', () => loop.stop()),
          writable: () => {
            steps.push('writable');
            loop.watchWritable(third.fd, false);
            third.signal();
          },
        });
        loop.watchWritable(third.fd, true);
      }),
    );
    loop.add(
      second.fd,
      drains(second, 'second', () => {}),
    );
    first.signal();
    second.signal();
    loop.run(turn());
    assert.deepEqual(steps, ['first', 'writable', 'third']);
  });
});
