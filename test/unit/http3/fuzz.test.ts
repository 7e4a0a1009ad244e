import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  datagramPayloadOffset,
  QUARTER_ID_BEYOND_ANY_LIMIT,
  QUARTER_ID_MALFORMED,
  readQuarterStreamId,
  writeQuarterStreamId,
} from '../../../data-plane/http3/datagram.ts';
import { FRAME_SESSION_STREAM, parseIdPayload } from '../../../data-plane/http3/frame.ts';
import { encodeGoaway, parseGoaway } from '../../../data-plane/http3/goaway-frame.ts';
import type { Http3Role } from '../../../data-plane/http3/http3-endpoint.ts';
import { encodeSettings, parseSettings } from '../../../data-plane/http3/settings-frame.ts';
import { TlvReader, type TlvTreatment } from '../../../data-plane/http3/tlv-reader.ts';
import {
  encodeVarint,
  MAX_VARINT,
  readBigVarint,
  readVarint,
  VARINT_TRUNCATED,
  varintLength,
} from '../../../data-plane/http3/varint.ts';
import { cuts, fuzz, hostile, inPieces, outcomeOf, surroundings, viewWithin, within } from '../../support/fuzz.ts';
import { anyLines } from './any-lines.ts';
import { CONNECT_IP, CONTROL_WITH_SETTINGS, concat, frame, headers, recorded } from './recording.ts';

const anyVarint = fc.oneof(
  fc.bigInt({ min: 0n, max: MAX_VARINT }),
  fc.constantFrom(0n, 63n, 64n, 16_383n, 16_384n, (1n << 30n) - 1n, 1n << 30n, 1n << 53n, MAX_VARINT),
);
suite('varints', () => {
  test('what is read is exact, within its end, and the same wherever it lies', () => {
    const bytes = hostile(anyVarint.map(encodeVarint), 10);
    fuzz(bytes, surroundings, fc.nat(10), (encoded, around, cut) => {
      const { buffer, offset } = within(around, encoded);
      const end = offset + Math.min(cut, encoded.length);
      const exact = readBigVarint(buffer, offset, end);
      const value = readVarint(buffer, offset, end);
      const alone = encoded.slice(0, end - offset);
      assert.equal(readVarint(alone, 0, alone.length), value);
      if (exact === undefined) {
        assert.equal(value, VARINT_TRUNCATED);
        assert.ok(alone.length === 0 || varintLength(alone[0]!) > alone.length);
        return;
      }
      assert.equal(value, exact <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(exact) : Number.POSITIVE_INFINITY);
      assert.equal(readBigVarint(encodeVarint(exact), 0, 8), exact);
    });
  });
});

/** In the log below: all that follows its header is passed on. */
const STREAM_OF_ITS_OWN = 63;

suite('records of type, length and value', () => {
  /** What the handler hears; a payload that came in pieces is put together. The treatment follows from the type. */
  class Log {
    readonly lines: string[] = [];
    #pieces = '';

    onHeader(type: number, length: number): TlvTreatment {
      this.lines.push(`header ${type} ${length}`);
      this.#pieces = '';
      if (type === STREAM_OF_ITS_OWN) return 'rest';
      // As our own handlers do: what is collected has a limit.
      return type % 3 === 0 ? 'skip' : type % 3 === 1 || length > 200 ? 'pieces' : 'whole';
    }
    onWhole(type: number, payload: Uint8Array): void {
      this.lines.push(`whole ${type} ${Buffer.from(payload).toString('hex')}`);
    }
    onPiece(type: number, bytes: Uint8Array): void {
      assert.ok(bytes.length > 0);
      if (this.#pieces !== '') this.lines.pop();
      this.#pieces += Buffer.from(bytes).toString('hex');
      this.lines.push(`pieces ${type} ${this.#pieces}`);
    }
  }
  const record = fc
    .tuple(anyVarint, fc.uint8Array({ maxLength: 40 }), fc.option(anyVarint))
    .map(([type, payload, lie]) => concat(encodeVarint(type), encodeVarint(lie ?? payload.length), payload));
  const stream = fc.array(record, { maxLength: 5 }).map((records) => concat(...records));

  test('no cut changes what is heard, and nothing of a piece is kept', () => {
    fuzz(hostile(stream), cuts, surroundings, (bytes, lengths, around) => {
      const [whole, cut] = [new Log(), new Log()];
      const [reader, cutReader] = [new TlvReader(whole), new TlvReader(cut)];
      reader.push(viewWithin(around, bytes));
      inPieces(bytes, lengths, (piece) => cutReader.push(piece));
      assert.deepEqual(cut.lines, whole.lines);
      assert.equal(cutReader.atBoundary, reader.atBoundary);
    });
  });

  test('what is announced costs nothing until it comes', () => {
    const handler = { onHeader: () => 'whole' as const, onWhole: () => {}, onPiece: () => {} };
    const start = concat(encodeVarint(1), encodeVarint(MAX_VARINT), Uint8Array.of(1));
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 1_000 }, () => new TlvReader(handler));
    for (const reader of readers) reader.push(start);
    const each = (process.memoryUsage().arrayBuffers - before) / readers.length;
    assert.ok(each < 1_024, `${each} bytes each`);
  });
});

suite('frames of the control stream', () => {
  const pairs = fc.uniqueArray(fc.tuple(fc.constantFrom(1, 6, 7, 8, 0x21, 0x33, 0x4040), fc.nat(1)), {
    selector: ([id]) => id,
  });

  test('SETTINGS: read as written, else a typed error, wherever they lie', () => {
    fuzz(pairs, (settings) => {
      const byId = new Map(settings);
      const { enableConnectProtocol, h3Datagram, maxFieldSectionSize } = parseSettings(
        encodeSettings(settings).subarray(2),
      );
      assert.equal(enableConnectProtocol, byId.get(8) === 1);
      assert.equal(h3Datagram, byId.get(0x33) === 1);
      assert.equal(maxFieldSectionSize, byId.get(6) ?? Number.POSITIVE_INFINITY);
    });
    fuzz(hostile(pairs.map((settings) => encodeSettings(settings).subarray(2))), surroundings, (payload, around) => {
      const outcome = outcomeOf(() => parseSettings(payload));
      assert.deepEqual(
        outcomeOf(() => parseSettings(viewWithin(around, payload))),
        outcome,
      );
      if ('code' in outcome) assert.ok(['H3_FRAME_ERROR', 'H3_SETTINGS_ERROR'].includes(outcome.code), outcome.code);
    });
  });

  test('GOAWAY and the frames of one id', () => {
    fuzz(anyVarint, (id) => {
      const { id: read, isRequestStream } = parseGoaway(encodeGoaway(id).subarray(2));
      assert.equal(read, id <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(id) : Number.POSITIVE_INFINITY);
      assert.equal(isRequestStream, id % 4n === 0n);
    });
    fuzz(hostile(anyVarint.map(encodeVarint), 12), surroundings, (payload, around) => {
      const outcome = outcomeOf(() => [parseIdPayload('MAX_PUSH_ID', payload), parseGoaway(payload)]);
      assert.deepEqual(
        outcomeOf(() => {
          const view = viewWithin(around, payload);
          return [parseIdPayload('MAX_PUSH_ID', view), parseGoaway(view)];
        }),
        outcome,
      );
      if ('code' in outcome) assert.equal(outcome.code, 'H3_FRAME_ERROR');
    });
  });
});

suite('datagrams', () => {
  test('the stream of a datagram is read as written, or is told to be none, wherever it lies', () => {
    fuzz(fc.integer({ min: 0, max: Math.floor(Number.MAX_SAFE_INTEGER / 4) }), surroundings, (quarter, around) => {
      const { buffer, offset } = within(around, new Uint8Array(8));
      const length = writeQuarterStreamId(buffer, offset, quarter * 4);
      assert.equal(readQuarterStreamId(buffer, offset, offset + length), quarter * 4);
      assert.equal(datagramPayloadOffset(buffer, offset), offset + length);
    });
    fuzz(hostile(anyVarint.map(encodeVarint), 10), surroundings, (bytes, around) => {
      const { buffer, offset } = within(around, bytes);
      const id = readQuarterStreamId(buffer, offset, offset + bytes.length);
      const exact = readBigVarint(bytes, 0, bytes.length);
      if (exact === undefined || exact >= 1n << 60n) assert.equal(id, QUARTER_ID_MALFORMED);
      else
        assert.equal(
          id,
          exact <= BigInt(Number.MAX_SAFE_INTEGER) / 4n ? Number(exact) * 4 : QUARTER_ID_BEYOND_ANY_LIMIT,
        );
    });
  });
});

suite('connections', () => {
  const control = fc
    .array(fc.tuple(fc.constantFrom(0, 1, 3, 4, 5, 7, 0x0d, 0x21), fc.uint8Array({ maxLength: 9 })), { maxLength: 3 })
    .map((frames) => concat(CONTROL_WITH_SETTINGS, ...frames.map(([type, payload]) => frame(type, payload))));
  const request = fc
    .tuple(anyLines, fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 3 }))
    .map(([lines, contents]) =>
      concat(headers([...CONNECT_IP, ...lines]), ...contents.map((content) => frame(0x00, content))),
    );
  const response = fc
    .tuple(fc.constantFrom('100', '200', '404'), fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 3 }))
    .map(([status, contents]) => concat(headers([[':status', status]]), ...contents.map((one) => frame(0x00, one))));
  const uni = fc.tuple(fc.constantFrom(0, 1, 2, 3, 0x21), fc.uint8Array({ maxLength: 9 })).map(([type, rest]) => {
    return concat(Uint8Array.of(type), rest);
  });
  const sessionStream = fc
    .tuple(fc.constantFrom(0, 4, 1 << 20), fc.uint8Array({ maxLength: 9 }))
    .map(([sessionId, rest]) => concat(encodeVarint(FRAME_SESSION_STREAM), encodeVarint(sessionId), rest));
  const codes = new Set([0x33, ...Array.from({ length: 16 }, (_, i) => 0x100 + i), 0x200, 0x201, 0x202]);

  for (const [role, maxSessions] of [
    ['server', 0],
    ['server', 4],
    ['client', 0],
  ] as const) {
    const peer = role === 'server' ? 2 : 3;
    const steps = fc.array(
      fc.oneof(
        fc.tuple(fc.constant(peer), hostile(control)),
        fc.tuple(fc.constantFrom(0, 4), hostile(role === 'server' ? request : response)),
        fc.tuple(fc.constantFrom(peer + 4, peer + 8), hostile(uni)),
        fc.tuple(fc.constantFrom(4, 8), hostile(sessionStream)),
        fc.tuple(fc.constant(-1), hostile(anyVarint.map(encodeVarint), 10)),
      ),
      { maxLength: 8 },
    );

    const who = maxSessions === 0 ? role : `${role} of sessions`;
    test(`item 6 a ${who}: whatever comes, registered codes only, and no cut changes the outcome`, () => {
      fuzz(steps, fc.array(fc.nat(7), { maxLength: 2 }), cuts, (played, ends, lengths) => {
        const whole = play(role, maxSessions, played, ends, [Number.MAX_SAFE_INTEGER]);
        assert.deepEqual(play(role, maxSessions, played, ends, lengths), whole);
        for (const { errorCode } of whole.resets) assert.ok(codes.has(errorCode));
        if (whole.closed !== undefined) assert.ok(codes.has(whole.closed));
      });
    });
  }
});

/** What is left when all of it was played; streams whose step is among `ends` end with it. */
function play(
  role: Http3Role,
  maxSessions: number,
  steps: readonly (readonly [streamId: number, bytes: Uint8Array])[],
  ends: readonly number[],
  lengths: readonly number[],
) {
  const { connection, events, transport } = recorded(role, { initialStreamLimit: 10, maxSessions });
  if (role === 'client') {
    for (let i = 0; i < 2; i++) {
      connection.sendRequest({ method: 'GET', scheme: 'https', authority: 'a', path: '/', fields: [] });
    }
  }
  const ended = new Set<number>();
  for (const [i, [streamId, bytes]] of steps.entries()) {
    if (streamId < 0) connection.datagramStream(bytes, 0, bytes.length);
    else if (!ended.has(streamId)) {
      inPieces(bytes, lengths, (piece) => connection.receiveStream(streamId, piece, false));
      if (ends.includes(i)) {
        ended.add(streamId);
        connection.receiveStream(streamId, new Uint8Array(0), true);
      }
    }
  }
  return {
    log: events.log,
    // Content that came ahead of an error of its own stream may reach the owner or not.
    data: [...events.data].filter(([streamId]) => transport.resets.every((one) => one.streamId !== streamId)),
    resets: transport.resets,
    closed: transport.closed?.errorCode,
    open: connection.openRequestStreams,
  };
}
