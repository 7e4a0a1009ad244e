import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCoreClock } from '../../../data-plane/quic/core-clock.ts';
import { importMemory } from '../../../data-plane/quic/wasm-binary.ts';

const MEMORY = { module: 'core', name: 'memory', maxPages: 512 };
const MONOTONIC = 1;
const REALTIME = 0;

test('a module that defined its memory takes ours, up to the new maximum', () => {
  // (import "a" "f" (func)) (memory (export "memory") 2 3) and a function that answers memory.size
  const module = Buffer.from(
    '0061736d01000000' +
      '0108026000006000017f' +
      '0207010161016600' +
      '00' +
      '03020101' +
      '0504010102' +
      '03' +
      '0711020473697a650001066d656d6f72790200' +
      '0a06010400' +
      '3f000b',
    'hex',
  );
  const changed = importMemory(module, MEMORY);
  assert.equal(changed.minPages, 2);
  const memory = new WebAssembly.Memory({ initial: 2, maximum: MEMORY.maxPages });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(changed.module), {
    a: { f: () => {} },
    core: { memory },
  });
  assert.equal(exports.memory, memory);
  assert.equal((exports.size as () => number)(), 2);
});

test('a module without imports, without memory or with one that has no bound is refused', () => {
  const preamble = '0061736d01000000';
  const imports = '0207010161016600' + '00';
  for (const sections of ['', imports, '050401010203', `${imports}0503010002`]) {
    assert.throws(() => importMemory(Buffer.from(preamble + sections, 'hex'), MEMORY), { code: 'QUIC_CORE_UNKNOWN' });
  }
});

test('the clock of a core is performance.now() and the wall clock, in nanoseconds', () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const clock = createCoreClock(memory) as (id: number, precision: bigint, pointer: number) => number;
  const read = (id: number): number => {
    assert.equal(clock(id, 0n, 8), 0);
    return Number(new DataView(memory.buffer).getBigUint64(8, true)) / 1e6;
  };
  const before = performance.now();
  const monotonic = read(MONOTONIC);
  assert.ok(before <= monotonic && monotonic <= performance.now(), `${before} ms, then ${monotonic} ms`);
  const wallMs = read(REALTIME);
  assert.ok(Math.abs(wallMs - Date.now()) < 1_000, `${wallMs} ms on the wall clock`);
});
