import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  DATAGRAM_ERROR,
  DATAGRAM_STREAM_CLOSED,
  DATAGRAM_UNKNOWN_STREAM,
  datagramHeaderLength,
  datagramPayloadOffset,
} from '../../../data-plane/http3/datagram.ts';
import { H3_MESSAGE_ERROR, Http3StreamError, Http3UsageError } from '../../../data-plane/http3/error-codes.ts';
import { Http3Connection, MAX_DISCARDED_BYTES } from '../../../data-plane/http3/http3-connection.ts';
import { decodeFieldSection } from '../../../data-plane/http3/qpack/decoder.ts';
import { parseSettings } from '../../../data-plane/http3/settings-frame.ts';
import { readVarint, varintLength } from '../../../data-plane/http3/varint.ts';
import {
  CONNECT_IP,
  CONTROL_WITH_SETTINGS,
  concat,
  frame,
  headers,
  hex,
  type Recorded,
  RecordingEvents,
  RecordingTransport,
  recorded,
} from './recording.ts';

const CONNECT_REQUEST = {
  method: 'CONNECT',
  protocol: 'connect-ip',
  scheme: 'https',
  authority: 'vpn.example',
  path: '/',
  fields: [],
} as const;

function serverWithTunnel(): Recorded {
  const server = recorded('server');
  server.connection.receiveStream(2, CONTROL_WITH_SETTINGS, false);
  server.connection.receiveStream(0, headers(CONNECT_IP), false);
  server.connection.sendResponse(0, 200, [], false);
  return server;
}

suite('start', () => {
  test('items 2, 3 a server opens streams 3, 7 and 11 at once and announces extended CONNECT and datagrams', () => {
    const { transport } = recorded('server');
    assert.deepEqual([...transport.sent.keys()], [3, 7, 11]);
    const control = transport.sent.get(3)!.bytes;
    assert.deepEqual([...control.subarray(0, 2)], [0x00, 0x04]);
    assert.deepEqual(parseSettings(control.subarray(3)), {
      enableConnectProtocol: true,
      h3Datagram: true,
      maxFieldSectionSize: 16_384,
    });
    assert.deepEqual(transport.sent.get(7)!.bytes, hex('02'));
    assert.deepEqual(transport.sent.get(11)!.bytes, hex('03'));
  });

  test('items 2, 3 a client opens streams 2, 6 and 10 and does not announce extended CONNECT', () => {
    const { transport } = recorded('client');
    assert.deepEqual([...transport.sent.keys()], [2, 6, 10]);
    const settings = parseSettings(transport.sent.get(2)!.bytes.subarray(3));
    assert.equal(settings.enableConnectProtocol, false);
    assert.equal(settings.h3Datagram, true);
  });
});

test('item 3 a reserved setting is sent along, and nothing of a dynamic table is offered', () => {
  for (const [role, stream] of [
    ['server', 3],
    ['client', 2],
  ] as const) {
    const bytes = recorded(role).transport.sent.get(stream)!.bytes;
    const ids: number[] = [];
    for (let at = 3; at < bytes.length; ) {
      ids.push(readVarint(bytes, at, bytes.length));
      at += varintLength(bytes[at]!);
      at += varintLength(bytes[at]!);
    }
    assert.ok(
      ids.some((id) => (id - 0x21) % 0x1f === 0),
      `${role}: ${ids}`,
    );
    assert.ok(!ids.includes(0x01) && !ids.includes(0x07), `${role}: ${ids}`);
  }
});

test('item 3 unknown settings are ignored', () => {
  const { connection, events } = recorded('client');
  connection.receiveStream(3, concat(hex('00'), frame(0x04, hex('4040 7fff 0801 dfffffffffffffff 05 3301'))), false);
  assert.deepEqual(events.log, ['settings']);
  assert.equal(connection.peerSettings?.enableConnectProtocol, true);
});

suite('requests at a server', () => {
  test('a request reaches the owner with its pseudo-headers and fields', () => {
    const { events } = serverWithTunnel();
    assert.deepEqual(events.requests[0], {
      streamId: 0,
      request: {
        method: 'CONNECT',
        protocol: 'connect-ip',
        scheme: 'https',
        authority: 'vpn.example',
        path: '/.well-known/masque/ip/*/*/',
        fields: [['capsule-protocol', '?1']],
      },
    });
  });

  test('content reaches the owner in pieces, across DATA frames and chunks', () => {
    const { connection, events } = serverWithTunnel();
    const stream = concat(frame(0, hex('6162')), frame(0x21, hex('ffff')), frame(0, hex('')), frame(0, hex('63')));
    for (const byte of stream) connection.receiveStream(0, Uint8Array.of(byte), false);
    connection.receiveStream(0, new Uint8Array(0), true);
    assert.deepEqual(events.data.get(0), hex('616263'));
    assert.equal(events.log.at(-1), 'end 0');
  });

  test('input 25 a header of 1 MiB is answered with 431 and read over, and the next request is served', () => {
    const { connection, transport, events } = recorded('server');
    connection.receiveStream(0, frame(0x01, new Uint8Array(0), 1 << 20), false);
    for (let i = 0; i < 1024; i++) connection.receiveStream(0, new Uint8Array(1024), i === 1023);
    const answer = transport.sent.get(0)!;
    assert.ok(answer.fin);
    assert.deepEqual(decodeFieldSection(answer.bytes.subarray(2), 1000), [[':status', '431']]);
    assert.deepEqual(events.log, ['refused 0 431']);
    assert.equal(connection.openRequestStreams, 0);
    connection.receiveStream(4, headers(CONNECT_IP), false);
    assert.equal(events.log.at(-1), 'request 4');
  });

  test('a header that only decodes to too much is answered with 431', () => {
    const { connection, events } = recorded('server');
    connection.receiveStream(0, frame(0x01, new Uint8Array(1000).fill(0xd9).fill(0, 0, 2)), false);
    assert.deepEqual(events.log, ['refused 0 431']);
  });

  test('a peer that goes on sending after a refusal is stopped', () => {
    const { connection, transport, events } = recorded('server');
    connection.receiveStream(0, headers(CONNECT_IP), false);
    connection.sendResponse(0, 404, [], true);
    for (let sent = 0; sent <= MAX_DISCARDED_BYTES; sent += 65_536) {
      connection.receiveStream(0, new Uint8Array(65_536), false);
    }
    assert.deepEqual(transport.resets, [{ streamId: 0, errorCode: 0x100 }]);
    assert.equal(connection.openRequestStreams, 0);
    assert.deepEqual(events.log, ['request 0']);
  });

  test('requests beyond the limit get H3_REQUEST_REJECTED and what they send is ignored', () => {
    const { connection, transport, events } = recorded('server', { maxRequestStreams: 2 });
    for (const id of [0, 4, 8, 8]) connection.receiveStream(id, headers(CONNECT_IP), false);
    assert.deepEqual(transport.resets, [{ streamId: 8, errorCode: 0x10b }]);
    assert.deepEqual(events.log, ['request 0', 'request 4']);
  });

  test('an error of one stream leaves the others alone', () => {
    const { connection, transport, events } = serverWithTunnel();
    connection.receiveStream(4, headers([[':path', '/']]), false);
    assert.deepEqual(transport.resets, [{ streamId: 4, errorCode: 0x10e }]);
    connection.receiveStream(4, frame(0x04, hex('')), true);
    connection.receiveStream(0, frame(0, hex('61')), false);
    assert.deepEqual(events.data.get(0), hex('61'));
    assert.ok(connection.sendData(0, hex('62')));
    assert.ok(!connection.sendData(4, hex('62')));
  });

  test('a handler that throws an Http3StreamError aborts its stream', () => {
    const transport = new RecordingTransport();
    const events = new RecordingEvents();
    events.onData = () => {
      throw new Http3StreamError(H3_MESSAGE_ERROR, 'a bad capsule');
    };
    const connection = new Http3Connection('server', transport, events);
    connection.receiveStream(0, concat(headers(CONNECT_IP), frame(0, hex('61')), frame(0, hex('62'))), true);
    assert.deepEqual(transport.resets, [{ streamId: 0, errorCode: 0x10e }]);
    assert.deepEqual(events.log, ['request 0', 'reset 0 0x10e']);
  });

  test('a handler that aborts its stream hears no more of it', () => {
    const transport = new RecordingTransport();
    const events = new RecordingEvents();
    const connection = new Http3Connection('server', transport, events);
    events.onRequest = (streamId) => connection.abortStream(streamId, 0x10c);
    connection.receiveStream(0, concat(headers(CONNECT_IP), frame(0, hex('61'))), true);
    assert.deepEqual(transport.resets, [{ streamId: 0, errorCode: 0x10c }]);
    assert.deepEqual(events.log, []);
    assert.equal(events.data.size, 0);
  });

  test('a response goes out once, and no field that a peer would refuse', () => {
    const { connection } = serverWithTunnel();
    assert.equal(connection.sendResponse(0, 200, [], false), false);
    connection.receiveStream(4, headers(CONNECT_IP), false);
    const bad = () => connection.sendResponse(4, 200, [['a', 'b\nc']], false);
    assert.throws(bad, (error) => error instanceof Http3UsageError && error.code === 'H3_INVALID_FIELD');
    assert.ok(connection.sendResponse(4, 200, [], false));
  });

  test('item 15 a reset of the peer closes the other half; so does our end together with its end', () => {
    const { connection, transport, events } = serverWithTunnel();
    connection.streamReset(0, 0x10c);
    assert.deepEqual(transport.resets, [{ streamId: 0, errorCode: 0x10c }]);
    assert.equal(events.log.at(-1), 'reset 0 0x10c');

    connection.receiveStream(4, headers(CONNECT_IP), true);
    connection.sendResponse(4, 200, [], false);
    assert.equal(connection.openRequestStreams, 1);
    connection.endStream(4);
    assert.ok(transport.sent.get(4)!.fin);
    assert.equal(connection.openRequestStreams, 0);
  });
});

suite('requests at a client', () => {
  test('item 4 an extended CONNECT waits for the SETTINGS that allow it', () => {
    const { connection, transport } = recorded('client');
    const send = () => connection.sendRequest(CONNECT_REQUEST);
    assert.throws(send, (error) => error instanceof Http3UsageError && error.code === 'H3_NOT_READY');
    assert.equal(transport.sent.has(0), false);
    connection.receiveStream(3, CONTROL_WITH_SETTINGS, false);
    assert.equal(send(), 0);
    assert.equal(send(), 4);
  });

  test('a request larger than the server takes is not sent', () => {
    const { connection } = recorded('client');
    connection.receiveStream(3, concat(hex('00'), frame(0x04, hex('0801 0640ff'))), false);
    const send = () => connection.sendRequest({ ...CONNECT_REQUEST, path: `/${'x'.repeat(200)}` });
    assert.throws(send, (error) => error instanceof Http3UsageError && error.code === 'H3_FIELDS_TOO_LARGE');
  });

  test('9114-5.2 no request follows a GOAWAY', () => {
    const { connection, events } = recorded('client');
    connection.receiveStream(3, concat(CONTROL_WITH_SETTINGS, hex('0701 04')), false);
    assert.deepEqual(events.log, ['settings', 'goaway 4']);
    const send = () => connection.sendRequest(CONNECT_REQUEST);
    assert.throws(send, (error) => error instanceof Http3UsageError && error.code === 'H3_GOING_AWAY');
  });
});

suite('datagrams', () => {
  test('item 16 a datagram finds its stream, also with a longer varint than necessary', () => {
    const { connection } = serverWithTunnel();
    assert.equal(connection.datagramStream(hex('00 aa'), 0, 2), 0);
    const padded = hex('ff 4000 aa');
    assert.equal(connection.datagramStream(padded, 1, 4), 0);
    assert.equal(datagramPayloadOffset(padded, 1), 3);
  });

  test('input 38 a datagram after the peer ended its side is dropped', () => {
    const { connection } = serverWithTunnel();
    connection.receiveStream(0, new Uint8Array(0), true);
    assert.equal(connection.datagramStream(hex('00 aa'), 0, 2), DATAGRAM_STREAM_CLOSED);
    connection.endStream(0);
    assert.equal(connection.datagramStream(hex('00 aa'), 0, 2), DATAGRAM_STREAM_CLOSED);
  });

  test('input 37 a flood of unopened quarter ids is dropped and nothing is kept', () => {
    const { connection, transport } = serverWithTunnel();
    const target = new Uint8Array(4);
    for (let id = 1; id < 10_000; id++) {
      new DataView(target.buffer).setUint32(0, 0x8000_0000 + id);
      assert.equal(connection.datagramStream(target, 0, 4), DATAGRAM_UNKNOWN_STREAM);
    }
    assert.equal(connection.openRequestStreams, 1);
    assert.equal(transport.closed, undefined);
  });

  test('item 17 a stream whose request has not come yet is unknown', () => {
    const { connection } = recorded('server');
    connection.receiveStream(0, headers(CONNECT_IP).subarray(0, 5), false);
    assert.equal(connection.datagramStream(hex('00 aa'), 0, 2), DATAGRAM_UNKNOWN_STREAM);
  });

  test('items 4, 17 a header is written only while datagrams may be sent on the stream', () => {
    const { connection } = recorded('server');
    const target = new Uint8Array(8);
    connection.receiveStream(0, headers(CONNECT_IP), false);
    assert.equal(connection.writeDatagramHeader(target, 0, 0), 0, 'not answered yet');
    connection.sendResponse(0, 200, [], false);
    assert.equal(connection.writeDatagramHeader(target, 0, 0), 0, 'no SETTINGS of the peer yet');
    connection.receiveStream(2, CONTROL_WITH_SETTINGS, false);
    assert.equal(connection.writeDatagramHeader(target, 2, 0), 1);
    assert.equal(connection.writeDatagramHeader(target, 0, 4), 0, 'no such stream');
    connection.endStream(0);
    assert.equal(connection.writeDatagramHeader(target, 0, 0), 0, 'after our own end');
    assert.equal(datagramHeaderLength(0), 1);
    assert.equal(datagramHeaderLength(4 * 64), 2);
  });

  test('a malformed one closes the connection once', () => {
    const { connection, transport } = serverWithTunnel();
    assert.equal(connection.datagramStream(hex(''), 0, 0), DATAGRAM_ERROR);
    assert.equal(transport.closed?.errorCode, 0x33);
    assert.equal(connection.datagramStream(hex(''), 0, 0), DATAGRAM_UNKNOWN_STREAM);
    connection.receiveStream(2, hex('ff'), true);
    connection.close();
  });
});

suite('shutdown', () => {
  test('item 40 two GOAWAYs, then late requests are rejected and tunnels live on until the close', () => {
    const { connection, transport, events } = serverWithTunnel();
    const before = transport.sent.get(3)!.bytes.length;
    connection.announceShutdown();
    connection.refuseNewRequests();
    assert.deepEqual(transport.sent.get(3)!.bytes.subarray(before), hex('0708 fffffffffffffffc 0701 04'));
    connection.receiveStream(4, headers(CONNECT_IP), false);
    assert.deepEqual(transport.resets, [{ streamId: 4, errorCode: 0x10b }]);
    assert.ok(connection.sendData(0, hex('61')));
    connection.close();
    assert.deepEqual(transport.closed, { errorCode: 0x100, reason: '' });
    assert.equal(connection.sendData(0, hex('61')), false);
    assert.equal(events.log.includes('request 4'), false);
  });
});

suite('WebTransport sessions', () => {
  const opening = hex('4041 00');

  test('a server that has them says so, and tells of their streams, whose bytes are no frames', () => {
    const { connection, transport, events } = recorded('server', { maxSessions: 1 });
    const settings = Buffer.from(transport.sent.get(3)?.bytes ?? []).toString('hex');
    for (const setting of ['ab603742 01', 'c0000000c671706a 01']) {
      assert.ok(settings.includes(setting.replace(' ', '')), settings);
    }
    connection.receiveStream(2, CONTROL_WITH_SETTINGS, false);
    connection.receiveStream(0, headers(CONNECT_IP), false);
    connection.receiveStream(4, concat(opening, hex('0802 aa')), false);
    connection.receiveStream(4, hex('bb'), true);
    assert.deepEqual(events.log, ['settings', 'request 0', 'session 0 stream 4', 'end 4']);
    assert.deepEqual(events.data.get(4), hex('0802 aabb'));
    assert.equal(connection.sendRaw(4, hex('cc')), true);
    connection.endStream(4);
    assert.deepEqual(transport.sent.get(4), { bytes: hex('cc'), fin: true });
    assert.equal(connection.sendRaw(4, hex('dd')), false);
  });

  test('to one that has none their streams begin with a frame of an unknown type', () => {
    const { connection, transport, events } = recorded('server');
    connection.receiveStream(2, CONTROL_WITH_SETTINGS, false);
    connection.receiveStream(0, concat(opening, headers(CONNECT_IP)), false);
    assert.deepEqual(events.log, ['settings', 'request 0']);
    assert.doesNotMatch(Buffer.from(transport.sent.get(3)?.bytes ?? []).toString('hex'), /ab603742/);
  });
});

test('arbitrary bytes on any stream never throw, and close or reset with a registered code only', () => {
  const codes = new Set([0x33, ...range(0x100, 0x10f), 0x200, 0x201, 0x202]);
  const step = fc.record({
    on: fc.constantFrom(0, 2, 4, 6, 10),
    bytes: fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.constantFrom(headers(CONNECT_IP), CONTROL_WITH_SETTINGS, hex('4041 00')),
    ),
    fin: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.constantFrom(0, 1), (steps, maxSessions) => {
      const { connection, transport } = recorded('server', { maxSessions });
      const ended = new Set<number>();
      for (const { on, bytes, fin } of steps) {
        if (ended.has(on)) continue;
        connection.receiveStream(on, bytes, fin);
        connection.datagramStream(bytes, 0, bytes.length);
        if (fin) ended.add(on);
      }
      for (const { errorCode } of transport.resets) assert.ok(codes.has(errorCode));
      if (transport.closed !== undefined) assert.ok(codes.has(transport.closed.errorCode));
    }),
    { numRuns: 500 },
  );
});

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
