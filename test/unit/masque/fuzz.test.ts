import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseRequestFields, type RequestFields, requestLines } from '../../../data-plane/http3/field-section.ts';
import type { FieldLine } from '../../../data-plane/http3/qpack/field-line.ts';
import { encodeVarint, MAX_VARINT, readBigVarint } from '../../../data-plane/http3/varint.ts';
import { encodeAddressAssign, parseAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import type { AddressEntry } from '../../../data-plane/masque/address-entry.ts';
import { encodeAddressRequest, parseAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { isBearerToken } from '../../../data-plane/masque/bearer-token.ts';
import { buildConnectIpRequest } from '../../../data-plane/masque/build-connect-ip-request.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { type CapsuleHandler, CapsuleReader } from '../../../data-plane/masque/capsule-reader.ts';
import { MAX_CAPSULE_BYTES } from '../../../data-plane/masque/capsule-treatment.ts';
import { decideConnectIp } from '../../../data-plane/masque/connect-ip-request.ts';
import { readConnectIpResponse } from '../../../data-plane/masque/connect-ip-response.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import {
  DATAGRAM_OF_PROBE,
  DATAGRAM_OF_UNKNOWN_CONTEXT,
  DATAGRAM_WITHOUT_CONTEXT,
  ipPacketOffset,
} from '../../../data-plane/masque/ip-datagram.ts';
import { compilePathTemplate, DEFAULT_PATH_TEMPLATE, matchPath } from '../../../data-plane/masque/path-template.ts';
import { percentDecode } from '../../../data-plane/masque/percent-decode.ts';
import {
  encodeRouteAdvertisement,
  type IpRoute,
  parseRouteAdvertisement,
} from '../../../data-plane/masque/route-advertisement.ts';
import { ADDRESS_BITS, type AddressFamily } from '../../../shared/ip/address.ts';
import { formatPrefix } from '../../../shared/ip/prefix.ts';
import { cuts, fuzz, hostile, inPieces, outcomeOf, surroundings, viewWithin, within } from '../../support/fuzz.ts';
import { concat } from '../http3/recording.ts';

const family = fc.constantFrom<AddressFamily>(4, 6);
const anyBits = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n });
const anyEntry = fc
  .tuple(fc.bigInt({ min: 0n, max: MAX_VARINT }), family, anyBits, fc.nat(128))
  .map(([requestId, version, bits, wanted]): AddressEntry => {
    const width = ADDRESS_BITS[version];
    const length = Math.min(wanted, width);
    const host = BigInt(width - length);
    return {
      requestId,
      prefix: { address: { family: version, value: (BigInt.asUintN(width, bits) >> host) << host }, length },
    };
  });
const anyEntries = fc.array(anyEntry, { maxLength: 4 });
/** Ranges of one family and protocol that neither touch nor overlap. */
const anyRoutes = fc
  .tuple(family, fc.nat(255), fc.uniqueArray(anyBits, { maxLength: 8 }))
  .map(([version, protocol, points]): IpRoute[] => {
    const bits = points.map((point) => BigInt.asUintN(ADDRESS_BITS[version], point));
    const values = [...new Set(bits)].sort((a, b) => (a < b ? -1 : 1));
    return values.flatMap((value, i) => {
      const end = values[i + 1];
      if (i % 2 === 1 || end === undefined) return [];
      return [{ start: { family: version, value }, end: { family: version, value: end }, protocol }];
    });
  });

/** The value of a capsule that was encoded here, so that its type and length are sound. */
function valueIn(capsule: Uint8Array): Uint8Array {
  return capsule.subarray(1 + (1 << (capsule[1]! >> 6)));
}

class Log implements CapsuleHandler {
  readonly heard: unknown[] = [];
  onAddressAssign(assigned: readonly AddressEntry[]): void {
    this.heard.push(['assign', assigned]);
  }
  onAddressRequest(requested: readonly AddressEntry[]): void {
    this.heard.push(['request', requested]);
  }
  onRouteAdvertisement(routes: readonly IpRoute[]): void {
    this.heard.push(['routes', routes]);
  }
  onDatagram(payload: Uint8Array): void {
    this.heard.push(['datagram', Buffer.from(payload).toString('hex')]);
  }
}

suite('capsules', () => {
  for (const [name, parse, encode, values] of [
    ['ADDRESS_ASSIGN', parseAddressAssign, encodeAddressAssign, anyEntries],
    ['ADDRESS_REQUEST', parseAddressRequest, encodeAddressRequest, anyEntries],
    ['ROUTE_ADVERTISEMENT', parseRouteAdvertisement, encodeRouteAdvertisement, anyRoutes],
  ] as const) {
    // Each row fits itself; what the compiler sees is any parser with any encoder.
    const encodeAny = encode as (value: unknown) => Uint8Array;
    test(`items 21, 22, 23 ${name}: H3_MESSAGE_ERROR or a value that survives, wherever it lies`, () => {
      const encoded = (values as fc.Arbitrary<unknown>).map((value) => valueIn(encodeAny(value)));
      fuzz(hostile(encoded), surroundings, (bytes, around) => {
        const outcome = outcomeOf<unknown>(() => parse(bytes));
        assert.deepEqual(
          outcomeOf<unknown>(() => parse(viewWithin(around, bytes))),
          outcome,
        );
        if ('code' in outcome) assert.equal(outcome.code, 'H3_MESSAGE_ERROR');
        else assert.deepEqual(parse(valueIn(encodeAny(outcome.value))), outcome.value);
      });
    });
  }

  test('item 26 a stream of capsules: no cut changes what is heard, or how it ends', () => {
    const capsule = fc.oneof(
      anyEntries.map(encodeAddressAssign),
      anyEntries.map(encodeAddressRequest),
      anyRoutes.map(encodeRouteAdvertisement),
      fc.uint8Array({ maxLength: 30 }).map(encodeDatagramCapsule),
      fc.tuple(fc.nat(200), fc.uint8Array({ maxLength: 30 })).map(([type, value]) => encodeCapsule(type, value)),
      fc
        .tuple(fc.nat(5), fc.bigInt({ min: 0n, max: MAX_VARINT }))
        .map(([type, length]) => concat(encodeVarint(type), encodeVarint(length))),
    );
    const stream = fc.array(capsule, { maxLength: 5 }).map((capsules) => concat(...capsules));
    fuzz(hostile(stream), cuts, (bytes, lengths) => {
      const read = (pieces: readonly number[]) => {
        const log = new Log();
        const reader = new CapsuleReader(log);
        const outcome = outcomeOf(() => {
          inPieces(bytes, pieces, (piece) => reader.push(piece));
          reader.end();
        });
        return { heard: log.heard, outcome };
      };
      const whole = read([Number.MAX_SAFE_INTEGER]);
      assert.deepEqual(read(lengths), whole);
      if ('code' in whole.outcome) {
        assert.ok(['H3_MESSAGE_ERROR', 'H3_EXCESSIVE_LOAD'].includes(whole.outcome.code), whole.outcome.code);
      }
    });
  });

  test('item 25, input 41 what a capsule announces costs nothing until it comes', () => {
    const start = concat(encodeVarint(1), encodeVarint(MAX_CAPSULE_BYTES), Uint8Array.of(0));
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 1_000 }, () => new CapsuleReader(new Log()));
    for (const reader of readers) reader.push(start);
    const each = (process.memoryUsage().arrayBuffers - before) / readers.length;
    assert.ok(each < 1_024, `${each} bytes each`);
  });

  test('item 19 the context of a datagram is read within its end', () => {
    const payload = fc.tuple(fc.constantFrom(0n, 1n, 2n, 0x3fn, MAX_VARINT), fc.uint8Array({ maxLength: 20 }));
    const encoded = payload.map(([context, rest]) => concat(encodeVarint(context), rest));
    fuzz(hostile(encoded, 20), surroundings, (bytes, around) => {
      const { buffer, offset } = within(around, bytes);
      const at = ipPacketOffset(buffer, offset, offset + bytes.length);
      const context = readBigVarint(bytes, 0, bytes.length);
      if (context === undefined) assert.equal(at, DATAGRAM_WITHOUT_CONTEXT);
      else if (context === 0n) assert.ok(at > offset && at <= offset + bytes.length);
      else assert.equal(at, context === 0x3fn ? DATAGRAM_OF_PROBE : DATAGRAM_OF_UNKNOWN_CONTEXT);
    });
  });
});

suite('requests', () => {
  const service = { pathTemplate: compilePathTemplate(DEFAULT_PATH_TEMPLATE) };
  const oddities = [
    '*',
    '%2A',
    '%252A',
    '%',
    '%zz',
    '%00',
    '/',
    '%2F',
    '?',
    '#',
    '::',
    '10.0.0.0',
    '%3A',
    '\0',
    '\ud800',
    'a.b',
  ];
  const segment = fc.oneof(
    fc.array(fc.constantFrom(...oddities), { maxLength: 4 }).map((parts) => parts.join('')),
    fc.string(),
  );
  const path = fc.oneof(
    fc.tuple(segment, segment).map(([target, protocol]) => `/.well-known/masque/ip/${target}/${protocol}/`),
    fc
      .tuple(segment, segment, segment)
      .map(([target, protocol, query]) => `/.well-known/masque/ip/${target}/${protocol}/?token=${query}`),
    fc.string(),
  );
  const field: fc.Arbitrary<FieldLine> = fc.tuple(
    fc.constantFrom('authorization', 'capsule-protocol', 'content-length', 'content-type', 'host', 'x-own'),
    fc.oneof(fc.string(), fc.constantFrom('Bearer t0', 'bearer  t0 ', 'Bearer', '?1', '?0', '?1;a', '0')),
  );

  test('items 10, 11 any request is decided without an error; what is let in names what it is limited to', () => {
    const request = fc.record<RequestFields>({
      method: fc.constantFrom('CONNECT', 'GET'),
      protocol: fc.constantFrom('connect-ip', 'connect-udp'),
      scheme: fc.constantFrom('https', 'http', ''),
      authority: fc.constantFrom('vpn.example', 'vpn.example:443', '', '[::1]:4433'),
      path,
      fields: fc.array(field, { maxLength: 3 }),
    });
    fuzz(request, (one) => {
      const decision = decideConnectIp(one, service);
      if (decision.kind === 'rejected') {
        assert.ok(decision.status >= 400 && decision.status < 600);
        return;
      }
      const { target, protocol, token } = decision;
      assert.ok(protocol === 'any' || (Number.isInteger(protocol) && protocol >= 0 && protocol <= 255));
      assert.ok(token === undefined || isBearerToken(token.value));
      // The same, said in the one form that nobody can misread.
      const text =
        target.kind === 'any' ? '*' : target.kind === 'prefix' ? formatPrefix(target.prefix) : target.hostname;
      const spelled = `/.well-known/masque/ip/${encodeURIComponent(text)}/${protocol === 'any' ? '%2A' : protocol}/`;
      const again = decideConnectIp({ ...one, path: spelled, fields: [] }, service);
      assert.ok(again.kind === 'accepted');
      assert.deepEqual([again.target, again.protocol], [target, protocol]);
    });
  });

  test('escapes: each text comes back, and a broken one is undefined', () => {
    fuzz(
      fc.string({ unit: 'grapheme' }).filter((text) => text.isWellFormed()),
      (text) => {
        assert.equal(percentDecode(encodeURIComponent(text)), text);
      },
    );
    fuzz(segment, (text) => {
      const decoded = percentDecode(text);
      assert.ok(decoded === undefined || typeof decoded === 'string');
    });
  });

  test('templates: compiled or refused with a typed error, and matched without one', () => {
    const template = fc.oneof(
      fc
        .array(fc.constantFrom('{target}', '{ipproto}', 'ip', '', '{x}', '{target', ' '), { maxLength: 5 })
        .map((parts) => `/${parts.join('/')}`),
      fc.string(),
    );
    fuzz(template, path, (text, one) => {
      const outcome = outcomeOf(() => compilePathTemplate(text));
      if ('code' in outcome) assert.equal(outcome.code, 'INVALID_PATH_TEMPLATE');
      else outcomeOf(() => matchPath(outcome.value, one));
    });
  });

  test('any URL and token make a request that a server takes, or a typed error without them', () => {
    const url = fc.oneof(
      segment.map((text) => `https://vpn.example/${text}`),
      fc.webUrl({ validSchemes: ['https', 'http'], withQueryParameters: true }),
      fc.string(),
    );
    fuzz(url, fc.option(fc.string(), { nil: undefined }), (text, token) => {
      const outcome = outcomeOf(() => buildConnectIpRequest(text, token));
      if ('code' in outcome) assert.ok(['INVALID_PROXY_URL', 'INVALID_TOKEN'].includes(outcome.code));
      else assert.deepEqual(parseRequestFields(requestLines(outcome.value)), outcome.value);
    });
  });

  test('item 14 any response is a tunnel, a refusal or malformed', () => {
    fuzz(fc.integer({ min: 100, max: 999 }), fc.array(field, { maxLength: 3 }), (status, fields) => {
      const { kind } = readConnectIpResponse(status, fields);
      const opens = status >= 200 && status < 300;
      assert.equal(kind === 'refused', !opens);
      if (kind === 'tunnel') assert.ok(!fields.some(([name]) => name.startsWith('content-')));
    });
  });
});
