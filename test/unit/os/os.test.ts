import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EventFd } from '../../../data-plane/os/event-fd.ts';
import { check, closeQuietly, open } from '../../../data-plane/os/libc.ts';
import { OsError } from '../../../data-plane/os/os-error.ts';
import { Poller } from '../../../data-plane/os/poller.ts';

describe('OsError', () => {
  it('says which call failed, about what and why', () => {
    assert.throws(
      () => check(open('/nowhere/at all', 0), 'open', '/nowhere/at all'),
      (error: unknown) =>
        error instanceof OsError &&
        error.code === 'ENOENT' &&
        error.message === 'open /nowhere/at all: no such file or directory',
    );
  });

  it('has a stable code also for an errno that Node does not name', () => {
    assert.equal(new OsError('read', 'tun0', 77).code, 'ERRNO_77');
  });
});

describe('Poller and EventFd', () => {
  it('report what is readable until it is drained', () => {
    const [a, b] = [EventFd.create(), EventFd.create()];
    const poller = new Poller();
    const slots = [poller.add(a.fd), poller.add(b.fd)];
    const readable = () => slots.map((slot) => poller.isReadable(slot));
    assert.equal(poller.wait(0), 0);
    assert.deepEqual(readable(), [false, false]);
    b.signal();
    b.signal();
    assert.equal(poller.wait(-1), 1);
    assert.deepEqual(readable(), [false, true]);
    assert.equal(b.drain(), true);
    assert.equal(b.drain(), false);
    assert.equal(poller.wait(0), 0);
    assert.deepEqual(readable(), [false, false]);
    poller.remove(a.fd);
    a.signal();
    assert.equal(poller.wait(0), 0, 'a removed descriptor is not watched');
    assert.equal(poller.add(a.fd), slots[0], 'its slot is used again');
    assert.equal(poller.wait(0), 1);
    a.close();
    b.close();
  });

  it('watch as many descriptors as are added', () => {
    const events = Array.from({ length: 40 }, () => EventFd.create());
    const poller = new Poller();
    const slots = events.map((event) => poller.add(event.fd));
    for (const event of events.slice(0, 39)) event.signal();
    assert.equal(poller.wait(0), 39);
    assert.deepEqual(
      slots.map((slot) => poller.isReadable(slot)),
      events.map((_, i) => i < 39),
    );
    for (const event of events) event.close();
  });

  it('report room to write where that is watched for', () => {
    const event = EventFd.create();
    const poller = new Poller();
    const slot = poller.add(event.fd);
    poller.watchWritable(slot, true);
    assert.equal(poller.wait(-1), 1);
    assert.deepEqual([poller.isReadable(slot), poller.isWritable(slot)], [false, true]);
    poller.watchWritable(slot, false);
    assert.equal(poller.wait(0), 0);
    assert.equal(poller.isWritable(slot), false);
    event.close();
  });

  it('wait no shorter than asked, fractions included', () => {
    const started = performance.now();
    assert.equal(new Poller().wait(4.2), 0);
    assert.ok(performance.now() - started >= 4.2);
  });

  it('refuse a descriptor that was closed while watched, instead of spinning', () => {
    const event = EventFd.create();
    const poller = new Poller();
    poller.add(event.fd);
    closeQuietly(event.fd);
    assert.throws(
      () => poller.wait(-1),
      (error: unknown) => error instanceof OsError && error.code === 'EBADF',
    );
  });

  it('wake a thread that is blocked in wait', async () => {
    const event = EventFd.create();
    const base = new URL('../../../data-plane/os/', import.meta.url);
    const source = `
      const { parentPort, workerData } = await import('node:worker_threads');
      const { Poller } = await import(workerData.base + 'poller.ts');
      const { EventFd } = await import(workerData.base + 'event-fd.ts');
      const poller = new Poller();
      const event = EventFd.fromFd(workerData.fd);
      poller.add(event.fd);
      parentPort.postMessage('waiting');
      const ready = poller.wait(10000);
      parentPort.postMessage({ ready, drained: event.drain() });`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: { fd: event.fd, base: base.href },
    });
    const next = () => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    assert.equal(await next(), 'waiting');
    const answer = next();
    event.signal();
    assert.deepEqual(await answer, { ready: 1, drained: true });
    await worker.terminate();
    event.close();
  });
});
