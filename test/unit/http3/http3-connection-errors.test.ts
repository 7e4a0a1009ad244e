import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Http3Role } from '../../../data-plane/http3/http3-endpoint.ts';
import type { FieldLine } from '../../../data-plane/http3/qpack/field-line.ts';
import {
  CONNECT_IP,
  CONTROL_WITH_SETTINGS,
  concat,
  frame,
  headers,
  hex,
  type Recorded,
  recorded,
} from './recording.ts';

/** What the peer sends: bytes on a stream, its end, or a reset. */
type Step =
  | { readonly on: number; readonly bytes: Uint8Array; readonly fin?: true }
  | { readonly reset: number }
  | { readonly datagram: Uint8Array };

/** What a client sends on streams 2, 6, 10 and 14, a server sends on 3, 7, 11 and 15; our own control stream is the other way round. */
function mirrored(step: Step): Step {
  if ('on' in step && step.on % 4 === 2) return { ...step, on: step.on + 1 };
  if ('reset' in step) return { reset: step.reset % 4 === 2 ? step.reset + 1 : step.reset - 1 };
  return step;
}

/** C is a connection error, S one of stream 0; alive means that neither happened. */
type Outcome = `C${string}` | `S${string}` | 'alive';

interface Case {
  readonly item: string;
  /** Ours; both where it is not said. */
  readonly role?: Http3Role;
  readonly steps: readonly Step[];
  readonly outcome: Outcome;
  /** Before the steps, stream 0 got its request (and at a client its 200). */
  readonly open?: true;
}

const control = (...frames: Uint8Array[]): Step => ({ on: 2, bytes: concat(CONTROL_WITH_SETTINGS, ...frames) });
const settings = (payload: string): Step => ({ on: 2, bytes: concat(hex('00'), frame(0x04, hex(payload))) });
const request = (bytes: Uint8Array): Step => ({ on: 0, bytes });
const without = (name: string): FieldLine[] => CONNECT_IP.filter(([own]) => own !== name);
const replaced = (name: string, value: string): FieldLine[] =>
  CONNECT_IP.map((line) => (line[0] === name ? [name, value] : line));
const withField = (...line: FieldLine): FieldLine[] => [...CONNECT_IP, line];
const MIB = 1 << 20;

const controlCases: Case[] = [
  { item: 'input 1 control starts with GOAWAY', steps: [{ on: 2, bytes: hex('00 0701 00') }], outcome: 'C10a' },
  { item: 'input 2 a second control stream', steps: [control(), { on: 6, bytes: hex('00') }], outcome: 'C103' },
  { item: 'input 3 control FIN', steps: [{ on: 2, bytes: CONTROL_WITH_SETTINGS, fin: true }], outcome: 'C104' },
  { item: 'item 2 control reset', steps: [control(), { reset: 2 }], outcome: 'C104' },
  { item: 'item 2 our control stream stopped', steps: [{ reset: 3 }], outcome: 'C104' },
  { item: 'input 4 duplicate 0x33', steps: [settings('3301 3301')], outcome: 'C109' },
  { item: 'item 3 duplicate unknown setting', steps: [settings('4040 01 4040 01')], outcome: 'C109' },
  { item: 'input 5 0x33 = 2', steps: [settings('3302')], outcome: 'C109' },
  { item: 'input 6 0x08 = 2', steps: [settings('0802')], outcome: 'C109' },
  { item: 'input 7 setting 0x02', steps: [settings('0200')], outcome: 'C109' },
  { item: 'item 3 setting 0x00', steps: [settings('0000')], outcome: 'C109' },
  { item: 'item 3 setting 0x05', steps: [settings('0500')], outcome: 'C109' },
  { item: 'input 8 SETTINGS cut mid-pair', steps: [settings('33')], outcome: 'C106' },
  { item: 'input 8 SETTINGS cut mid-varint', steps: [settings('3301 40')], outcome: 'C106' },
  {
    item: 'input 9 1 MiB SETTINGS',
    steps: [{ on: 2, bytes: concat(hex('00'), frame(0x04, hex(''), MIB)) }],
    outcome: 'C107',
  },
  { item: 'item 2 second SETTINGS', steps: [control(frame(0x04, hex('')))], outcome: 'C105' },
  { item: 'input 10 DATA on control', steps: [control(frame(0x00, hex('61')))], outcome: 'C105' },
  { item: 'item 6 HEADERS on control', steps: [control(headers(CONNECT_IP))], outcome: 'C105' },
  { item: 'item 6 PUSH_PROMISE on control', steps: [control(frame(0x05, hex('00')))], outcome: 'C105' },
  { item: 'input 11 frame 0x06 on control', steps: [control(frame(0x06, hex('')))], outcome: 'C105' },
  {
    item: 'input 12 GREASE frame of length 2^62-1',
    steps: [control(frame(0x21, hex('00'), 2n ** 62n - 1n))],
    outcome: 'alive',
  },
  { item: '9114-7.2.6 GOAWAY with two ids', steps: [control(frame(0x07, hex('0000')))], outcome: 'C106' },
  { item: '9114-7.2.6 empty GOAWAY', steps: [control(frame(0x07, hex('')))], outcome: 'C106' },
  { item: '9114-7.2.6 GOAWAY of 9 bytes', steps: [control(frame(0x07, new Uint8Array(9)))], outcome: 'C106' },
  { item: 'input 47 GOAWAY rises', steps: [control(hex('0701 00 0701 04'))], outcome: 'C108' },
  {
    item: 'item 40 GOAWAY falls',
    steps: [control(hex('0708 fffffffffffffffc 0701 04 0701 04 0701 00'))],
    outcome: 'alive',
  },
  {
    item: 'item 40 GOAWAY for a push id at a client',
    role: 'client',
    steps: [serverControl(hex('0701 01'))],
    outcome: 'C108',
  },
  {
    item: '9114-7.2.7 MAX_PUSH_ID at a client',
    role: 'client',
    steps: [serverControl(hex('0d01 01'))],
    outcome: 'C105',
  },
  { item: '9114-7.2.7 MAX_PUSH_ID falls', role: 'server', steps: [control(hex('0d01 05 0d01 04'))], outcome: 'C108' },
  { item: '9114-7.2.3 CANCEL_PUSH', steps: [control(hex('0301 00'))], outcome: 'C108' },
  {
    item: 'input 13 GREASE uni stream, reset',
    steps: [{ on: 14, bytes: hex('21 ffff') }, { reset: 14 }],
    outcome: 'alive',
  },
  { item: 'input 14 half a stream type and FIN', steps: [{ on: 14, bytes: hex('40'), fin: true }], outcome: 'alive' },
  {
    item: 'item 5 unknown uni stream with much data',
    steps: [{ on: 14, bytes: concat(hex('21'), new Uint8Array(5000)) }],
    outcome: 'alive',
  },
  { item: 'input 15 push stream at a server', role: 'server', steps: [{ on: 6, bytes: hex('01') }], outcome: 'C103' },
  { item: 'item 5 push stream at a client', role: 'client', steps: [{ on: 7, bytes: hex('01 00') }], outcome: 'C108' },
  {
    item: 'input 16 second encoder stream',
    steps: [
      { on: 6, bytes: hex('02') },
      { on: 10, bytes: hex('02') },
    ],
    outcome: 'C103',
  },
  {
    item: 'item 5 second decoder stream',
    steps: [
      { on: 6, bytes: hex('03') },
      { on: 10, bytes: hex('03') },
    ],
    outcome: 'C103',
  },
  { item: 'item 5 encoder stream FIN', steps: [{ on: 6, bytes: hex('02'), fin: true }], outcome: 'C104' },
  { item: 'item 5 decoder stream reset', steps: [{ on: 6, bytes: hex('03') }, { reset: 6 }], outcome: 'C104' },
  { item: 'input 17 encoder insert', steps: [{ on: 6, bytes: hex('02 c0 01 61') }], outcome: 'C201' },
  { item: 'input 18 increment 0', steps: [{ on: 6, bytes: hex('03 00') }], outcome: 'C202' },
  {
    item: 'item 39 capacity 0 and stream cancellation',
    steps: [
      { on: 6, bytes: hex('02 20') },
      { on: 10, bytes: hex('03 44') },
    ],
    outcome: 'alive',
  },
  {
    item: 'item 5 server bidi stream at a client',
    role: 'client',
    steps: [{ on: 1, bytes: hex('00') }],
    outcome: 'C103',
  },
];

const requestCases: Case[] = [
  { item: 'input 19 required insert count 1', steps: [request(frame(0x01, hex('0200 d9')))], outcome: 'C200' },
  { item: 'input 20 static 99', steps: [request(frame(0x01, hex('0000 ff24')))], outcome: 'C200' },
  { item: 'input 21 Huffman EOS', steps: [request(frame(0x01, hex('0000 50 84fffffffc')))], outcome: 'S200' },
  { item: 'input 22 8 bits of Huffman padding', steps: [request(frame(0x01, hex('0000 50 8207ff')))], outcome: 'S200' },
  {
    item: 'input 23 70-bit integer',
    steps: [request(frame(0x01, hex(`0000 ff${'ff'.repeat(10)}01`)))],
    outcome: 'S200',
  },
  {
    item: 'input 24 string longer than its frame',
    steps: [request(frame(0x01, hex('0000 50 0a61')))],
    outcome: 'S200',
  },
  { item: 'input 26 DATA first', steps: [request(frame(0x00, hex('61')))], outcome: 'C105' },
  {
    item: 'input 27 trailers after 2xx',
    role: 'server',
    open: true,
    steps: [request(headers([['a', 'b']]))],
    outcome: 'C105',
  },
  {
    item: 'input 27 trailers after 2xx at a client',
    role: 'client',
    open: true,
    steps: [request(headers([['a', 'b']]))],
    outcome: 'C105',
  },
  {
    item: 'input 28 FIN mid-DATA',
    open: true,
    steps: [{ on: 0, bytes: frame(0x00, hex('61'), 2), fin: true }],
    outcome: 'C106',
  },
  { item: 'item 6 FIN mid frame header', open: true, steps: [{ on: 0, bytes: hex('00'), fin: true }], outcome: 'C106' },
  {
    item: 'item 6 FIN mid-HEADERS',
    role: 'server',
    steps: [{ on: 0, bytes: headers(CONNECT_IP).subarray(0, 9), fin: true }],
    outcome: 'C106',
  },
  { item: 'input 29 empty stream FIN', role: 'server', steps: [{ on: 0, bytes: hex(''), fin: true }], outcome: 'S10d' },
  {
    item: 'item 9 GREASE frame and FIN',
    role: 'server',
    steps: [{ on: 0, bytes: frame(0x21, hex('00')), fin: true }],
    outcome: 'S10d',
  },
  { item: 'item 6 frame 0x08 on a request stream', steps: [request(frame(0x08, hex('')))], outcome: 'C105' },
  { item: 'item 6 SETTINGS on a request stream', steps: [request(frame(0x04, hex('')))], outcome: 'C105' },
  { item: 'item 6 GOAWAY on a request stream', steps: [request(hex('0701 00'))], outcome: 'C105' },
  { item: 'item 6 MAX_PUSH_ID on a request stream', steps: [request(hex('0d01 00'))], outcome: 'C105' },
  { item: 'item 6 CANCEL_PUSH on a request stream', steps: [request(hex('0301 00'))], outcome: 'C105' },
  {
    item: '9114-7.2.5 PUSH_PROMISE at a server',
    role: 'server',
    steps: [request(frame(0x05, hex('00')))],
    outcome: 'C105',
  },
  {
    item: '9114-7.2.5 PUSH_PROMISE at a client',
    role: 'client',
    open: true,
    steps: [request(frame(0x05, hex('00')))],
    outcome: 'C108',
  },
  {
    item: 'item 6 GREASE frames around the request',
    role: 'server',
    steps: [request(concat(frame(0x21, hex('0102')), headers(CONNECT_IP), frame(0x40, hex(''))))],
    outcome: 'alive',
  },
  {
    item: 'input 12 GREASE of length 2^62-1 on a request',
    open: true,
    steps: [request(frame(0x21, hex('00'), 2n ** 62n - 1n))],
    outcome: 'alive',
  },
  {
    item: 'input 30 duplicate :path',
    role: 'server',
    steps: [request(headers([[':path', '/'], ...CONNECT_IP]))],
    outcome: 'S10e',
  },
  {
    item: 'input 31 pseudo-header after a field',
    role: 'server',
    steps: [request(headers([...without(':path'), [':path', '/']]))],
    outcome: 'S10e',
  },
  { item: 'item 7 no :scheme', role: 'server', steps: [request(headers(without(':scheme')))], outcome: 'S10e' },
  { item: 'item 7 no :authority', role: 'server', steps: [request(headers(without(':authority')))], outcome: 'S10e' },
  { item: 'item 7 no :path', role: 'server', steps: [request(headers(without(':path')))], outcome: 'S10e' },
  { item: 'item 7 no :method', role: 'server', steps: [request(headers(without(':method')))], outcome: 'S10e' },
  { item: 'item 7 empty :path', role: 'server', steps: [request(headers(replaced(':path', '')))], outcome: 'S10e' },
  {
    item: 'item 7 empty :authority',
    role: 'server',
    steps: [request(headers(replaced(':authority', '')))],
    outcome: 'S10e',
  },
  {
    item: 'item 7 empty :protocol',
    role: 'server',
    steps: [request(headers(replaced(':protocol', '')))],
    outcome: 'S10e',
  },
  {
    item: '8441-4 :protocol with GET',
    role: 'server',
    steps: [request(headers(replaced(':method', 'GET')))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.4 plain CONNECT with :path',
    role: 'server',
    steps: [request(headers(without(':protocol')))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.3 unknown pseudo-header',
    role: 'server',
    steps: [request(headers([[':own', 'x'], ...CONNECT_IP]))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.3 :status in a request',
    role: 'server',
    steps: [request(headers([[':status', '200'], ...CONNECT_IP]))],
    outcome: 'S10e',
  },
  {
    item: 'item 7 uppercase name',
    role: 'server',
    steps: [request(headers(withField('X-Own', '1')))],
    outcome: 'S10e',
  },
  { item: '9114-4.2 empty name', role: 'server', steps: [request(headers(withField('', '1')))], outcome: 'S10e' },
  {
    item: 'item 7 connection',
    role: 'server',
    steps: [request(headers(withField('connection', 'close')))],
    outcome: 'S10e',
  },
  {
    item: 'item 7 transfer-encoding',
    role: 'server',
    steps: [request(headers(withField('transfer-encoding', 'chunked')))],
    outcome: 'S10e',
  },
  { item: '9114-4.2 te', role: 'server', steps: [request(headers(withField('te', 'gzip')))], outcome: 'S10e' },
  {
    item: '9114-10.3 line break in a value',
    role: 'server',
    steps: [request(headers(withField('a', 'b\r\nc: d')))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.3.1 host and :authority differ',
    role: 'server',
    steps: [request(headers(withField('host', 'other')))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.1.2 more content than content-length',
    role: 'server',
    steps: [request(concat(headers(POST(1)), frame(0, hex('6161'))))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.1.2 less content than content-length',
    role: 'server',
    steps: [{ on: 0, bytes: headers(POST(1)), fin: true }],
    outcome: 'S10e',
  },
  {
    item: '9114-4.1 DATA after trailers',
    role: 'server',
    steps: [request(concat(headers(POST(0)), headers([['a', 'b']]), frame(0, hex('61'))))],
    outcome: 'C105',
  },
  {
    item: '9114-4.3 pseudo-header in trailers',
    role: 'server',
    steps: [request(concat(headers(POST(0)), headers([[':path', '/']])))],
    outcome: 'S10e',
  },
  {
    item: '9114-4.1 trailers of a POST',
    role: 'server',
    steps: [{ on: 0, bytes: concat(headers(POST(0)), headers([['a', 'b']])), fin: true }],
    outcome: 'alive',
  },
];

for (const [name, value] of CONNECT_IP.filter(([name]) => name.startsWith(':'))) {
  const twice = headers([[name, value], ...CONNECT_IP]);
  requestCases.push({ item: `item 7 ${name} twice`, role: 'server', steps: [request(twice)], outcome: 'S10e' });
}

const responseCases: Case[] = (
  [
    ['item 14 status 101', headers([[':status', '101']]), 'S10e'],
    ['9114-4.3.2 no :status', headers([['a', 'b']]), 'S10e'],
    ['9114-4.3.2 two-digit :status', headers([[':status', '20']]), 'S10e'],
    [
      '9114-4.3.2 :status twice',
      headers([
        [':status', '200'],
        [':status', '200'],
      ]),
      'S10e',
    ],
    ['item 14 interim responses', concat(headers([[':status', '100']]), headers([[':status', '103']])), 'alive'],
    [
      'item 14 endless interim responses',
      concat(...Array.from({ length: 17 }, () => headers([[':status', '103']]))),
      'S107',
    ],
    ['item 9 DATA before the response', frame(0, hex('61')), 'C105'],
    ['9114-4.2.2 a response head of 1 MiB', frame(0x01, hex(''), MIB), 'S107'],
  ] as const
).map(([item, bytes, outcome]) => ({ item, role: 'client', steps: [request(bytes)], outcome }));

const datagramCases: Case[] = [
  { item: 'input 35 empty DATAGRAM', steps: [{ datagram: hex('') }], outcome: 'C33' },
  { item: 'item 16 cut-off quarter id', steps: [{ datagram: hex('40') }], outcome: 'C33' },
  { item: 'input 36 quarter id 2^60', steps: [{ datagram: hex('d000000000000000') }], outcome: 'C33' },
  { item: 'input 36 quarter id 2^62-1', steps: [{ datagram: hex('ffffffffffffffff') }], outcome: 'C33' },
  { item: 'item 17 quarter id 2^60-1', steps: [{ datagram: hex('cfffffffffffffff') }], outcome: 'C108' },
  { role: 'server', item: 'item 17 beyond the stream limit', steps: [{ datagram: hex('0a 00') }], outcome: 'C108' },
  {
    role: 'server',
    item: 'item 17 below the stream limit, not open',
    steps: [{ datagram: hex('09 00') }],
    outcome: 'alive',
  },
  {
    role: 'server',
    item: 'item 18 stream without datagram semantics',
    steps: [request(headers(POST(1))), { datagram: hex('00 00') }],
    outcome: 'S33',
  },
];

for (const [name, cases] of Object.entries({ controlCases, requestCases, responseCases, datagramCases })) {
  suite(name, () => {
    for (const one of cases) {
      test(`${one.item} -> ${one.outcome}`, () => {
        for (const role of one.role === undefined ? (['server', 'client'] as const) : [one.role]) {
          const steps = one.role === undefined && role === 'client' ? one.steps.map(mirrored) : one.steps;
          for (const chunk of [Number.POSITIVE_INFINITY, 1, 3]) {
            assertOutcome(play({ ...one, role, steps }, chunk), one.outcome);
          }
        }
      });
    }
  });
}

function serverControl(frames: Uint8Array): Step {
  return { on: 3, bytes: concat(CONTROL_WITH_SETTINGS, frames) };
}

function POST(length: number): FieldLine[] {
  return [
    [':method', 'POST'],
    [':scheme', 'https'],
    [':authority', 'vpn.example'],
    [':path', '/'],
    ['content-length', String(length)],
  ];
}

function play(one: Case & { readonly role: Http3Role }, chunkLength: number): Recorded {
  const { role } = one;
  const side = recorded(role, { initialStreamLimit: 10 });
  const { connection } = side;
  if (role === 'client' && requestNeeded(one)) {
    connection.receiveStream(3, CONTROL_WITH_SETTINGS, false);
    connection.sendRequest({
      method: 'CONNECT',
      protocol: 'connect-ip',
      scheme: 'https',
      authority: 'a',
      path: '/',
      fields: [],
    });
    if (one.open) connection.receiveStream(0, headers([[':status', '200']]), false);
  } else if (one.open) {
    connection.receiveStream(0, headers(CONNECT_IP), false);
    connection.sendResponse(0, 200, [], false);
  }
  for (const step of one.steps) {
    if ('reset' in step) connection.streamReset(step.reset, 0x10c);
    else if ('datagram' in step) connection.datagramStream(step.datagram, 0, step.datagram.length);
    else {
      for (let i = 0; i < step.bytes.length; i += chunkLength) {
        connection.receiveStream(step.on, step.bytes.slice(i, i + chunkLength), false);
      }
      if (step.fin) connection.receiveStream(step.on, new Uint8Array(0), true);
    }
  }
  return side;
}

function requestNeeded(one: Case): boolean {
  return one.steps.some((step) => 'on' in step && step.on === 0);
}

function assertOutcome({ connection, transport, events }: Recorded, outcome: Outcome): void {
  const code = Number.parseInt(outcome.slice(1), 16);
  if (outcome.startsWith('C')) {
    assert.equal(transport.closed?.errorCode.toString(16), outcome.slice(1));
    assert.equal(events.error?.wireCode, code);
    assert.equal(events.log.filter((line) => line.startsWith('error')).length, 1);
    return;
  }
  assert.equal(transport.closed, undefined);
  if (outcome === 'alive') {
    assert.deepEqual(transport.resets, []);
  } else {
    assert.deepEqual(transport.resets, [{ streamId: 0, errorCode: code }]);
    assert.deepEqual(
      events.log.filter((line) => line.startsWith('reset')),
      [`reset 0 0x${outcome.slice(1)}`],
    );
    assert.equal(connection.openRequestStreams, 0);
  }
}
