import assert from 'node:assert/strict';
import { test } from 'node:test';
import { echoPacketBytes, writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import {
  http3,
  type RequestChanges,
  type RequestUnderTest,
  type TransportUnderTest,
} from '../../support/transport-under-test.ts';
import { udpPacket } from '../../support/udp-packet.ts';
import { waitFor } from '../../support/wait-for.ts';
import { concat, hex } from '../../unit/http3/recording.ts';
import { nodeMetrics, targetOf } from './node-setup.ts';

const TIMEOUT_MS = 20_000;
const PING_IDENTIFIER = 0x3c3c;
const TTL_OFFSET = 8;
/** What may lie between a node and a client that reads nothing, in bytes: queues and windows of both. */
const MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024;
/** One capsule of each kind that ends its tunnel, by the input of the checklist that it is. */
const MALFORMED: readonly (readonly [string, Uint8Array])[] = [
  ['43 an assignment of IP version 5', encodeCapsule(0x01, hex('00 05 0a630007 20'))],
  ['43 an assignment with host bits', encodeCapsule(0x01, hex('00 04 0a630007 10'))],
  ['43 an assignment that is cut', encodeCapsule(0x01, hex('00 04 0a63'))],
  ['44 an empty address request', encodeCapsule(0x02, hex(''))],
  ['44 an address request of id 0', encodeCapsule(0x02, hex('00 04 00000000 20'))],
  ['45 a route that ends before it starts', encodeCapsule(0x03, hex('04 0a000002 0a000001 00'))],
];

export interface ContractSetup {
  readonly cluster: () => Cluster;
  /** A client of the cluster that may have many tunnels. */
  readonly clientId: string;
}

/** What every transport of tunnels owes its clients, as tests against a real node. */
export function tunnelTransportContract(transport: TransportUnderTest, { cluster, clientId }: ContractSetup): void {
  const { name, codes } = transport;
  let sequence = 0;
  const echoRequest = (from: string, to: string): Uint8Array => {
    const source = addressToBytes(parseAddress(from));
    const destination = addressToBytes(parseAddress(to));
    const packet = new Uint8Array(echoPacketBytes(source.length, 0));
    const message = {
      source,
      destination,
      identifier: PING_IDENTIFIER,
      sequence: sequence++,
      payload: new Uint8Array(0),
    };
    writeEcho(packet, 0, { kind: 'request', ...message });
    return packet;
  };
  const askedAt = new WeakMap<RequestUnderTest, Date>();
  const request = async (changes?: RequestChanges, token: string | undefined = cluster().client(clientId).token) => {
    const at = new Date();
    const asked = await transport.request(targetOf(cluster()), token, changes);
    askedAt.set(asked, at);
    return asked;
  };
  const open = async (changes?: RequestChanges): Promise<RequestUnderTest> => {
    const tunnel = await request(changes);
    assert.equal(tunnel.status, 200);
    await tunnel.until(() => tunnel.assigned.length > 0 && tunnel.routes !== undefined, 'addresses and routes');
    return tunnel;
  };
  /** The record of a tunnel that has ended. An address may have been another's before. */
  const endOf = (tunnel: RequestUnderTest) =>
    waitFor(
      async () => {
        const [row] = await cluster().sql<{ reason: string; transport: string; detail: string }>(
          `SELECT c.reason, c.transport, c.detail FROM connections c JOIN address_assignments a USING (connection_id)
            WHERE a.address = $1 AND c.established_at >= $2 AND c.state = 'closed' AND NOT upper_inf(a.during)`,
          [tunnel.addresses[0], askedAt.get(tunnel)],
        );
        return row;
      },
      { timeoutMs: TIMEOUT_MS, what: `the end of the tunnel of ${tunnel.addresses[0]} in SQL` },
    );
  const behind = () => cluster().node('node-a').place.behind.address;
  const drops = async (reason: string) =>
    sumOf(await nodeMetrics(cluster()), 'masque_vpn_node_drops_total', { reason });
  /** A ping of the host behind the node. */
  const ping = (tunnel: RequestUnderTest): Uint8Array => echoRequest(tunnel.addresses[0] ?? '', behind());
  const reaches = async (tunnel: RequestUnderTest): Promise<void> => {
    let answers = 0;
    tunnel.onPacket = () => answers++;
    tunnel.packet(ping(tunnel));
    await tunnel.until(() => answers > 0, 'an answer from behind the node');
  };

  test('items 21, 23 a tunnel opens with 200, addresses of both families and routes, and its transport is on record', async () => {
    const tunnel = await open();
    assert.equal(tunnel.field('capsule-protocol'), '?1');
    assert.equal(tunnel.field('content-length'), undefined);
    assert.equal(tunnel.assigned[0]?.length, 2);
    assert.match(tunnel.assigned[0]?.join() ?? '', /^0=10\.99\.\d+\.\d+\/32,0=fd00:99::[0-9a-f:]+\/128$/);
    assert.ok((tunnel.routes ?? 0) >= 2);
    await reaches(tunnel);
    tunnel.close();
    assert.equal((await endOf(tunnel)).transport, name);
  });

  test('packets pass both ways byte for byte but for the TTL, also to and from a client of HTTP/3', async () => {
    const tunnel = await open();
    const other = await http3.request(targetOf(cluster()), cluster().client(clientId).token);
    await other.until(() => other.addresses.length > 0, 'addresses');
    for (const [from, to] of [
      [tunnel, other],
      [other, tunnel],
    ] as const) {
      for (const length of [0, 1, 1_000, 1_400 - 28]) {
        const data = Uint8Array.from({ length }, (_, i) => (i * 7 + length) % 256);
        const sent = udpPacket(from.addresses[0] ?? '', to.addresses[0] ?? '', data);
        const came: Buffer[] = [];
        to.onPacket = (bytes) => came.push(bytes);
        from.packet(sent);
        await to.until(() => came.length > 0, `a packet of ${sent.length} bytes`);
        const [arrived] = came;
        assert.ok(arrived && arrived[TTL_OFFSET]! < sent[TTL_OFFSET]!);
        // A router changes the TTL and with it the checksum.
        for (const bytes of [arrived, sent]) bytes.fill(0, TTL_OFFSET, TTL_OFFSET + 1).fill(0, 10, 12);
        assert.ok(arrived.equals(sent), `${length} bytes`);
      }
    }
    tunnel.close();
    other.close();
  });

  test('9484-4.7.2 items 22, 26 address requests are answered with what the tunnel has, and what it has not is refused', async () => {
    const tunnel = await open({ path: `/.well-known/masque/ip/${behind()}/*/` });
    const [own] = tunnel.addresses;
    assert.deepEqual(tunnel.assigned[0], [`0=${own}/32`]);
    const wishes = encodeAddressRequest([
      { requestId: 5n, prefix: parsePrefix('0.0.0.0/32') },
      { requestId: 9n, prefix: parsePrefix('::/128') },
    ]);
    for (const byte of wishes) tunnel.content(Uint8Array.of(byte));
    await tunnel.until(() => tunnel.assigned.length > 1, 'the answer');
    assert.deepEqual(tunnel.assigned[1], [`5=${own}/32`, '9=::/128']);
    tunnel.close();
  });

  test('items 20, 25 input 42 a packet in a DATAGRAM capsule passes in any chunking, and after an unknown capsule of 1 MiB', async () => {
    const tunnel = await open();
    const capsule = encodeDatagramCapsule(concat(hex('00'), ping(tunnel)));
    const unknown = concat(hex('2b 80100000'), new Uint8Array(0x100000));
    let answers = 0;
    tunnel.onPacket = () => answers++;
    for (const byte of capsule) tunnel.content(Uint8Array.of(byte));
    await tunnel.until(() => answers === 1, 'the answer to the first');
    for (let at = 0; at < unknown.length; at += 50_000) tunnel.content(unknown.subarray(at, at + 50_000));
    tunnel.content(concat(capsule, capsule, capsule.subarray(0, 7)));
    tunnel.content(capsule.subarray(7));
    await tunnel.until(() => answers === 4, 'the answers to the others');
    tunnel.close();
  });

  test('item 24 a malformed capsule ends its tunnel with the code of the transport', async () => {
    for (const [what, capsule] of MALFORMED) {
      const tunnel = await open();
      tunnel.content(capsule);
      await tunnel.until(() => tunnel.ended !== undefined, 'the end');
      assert.equal(tunnel.ended, codes.malformed, `input ${what}`);
      assert.equal((await endOf(tunnel)).reason, 'error', `input ${what}`);
      tunnel.close();
    }
  });

  test('input 41 a capsule beyond every limit ends its tunnel, and input 46 an end inside of one', async () => {
    const huge = await open();
    huge.content(hex('01 ffffffffffffffff'));
    await huge.until(() => huge.ended !== undefined, 'the end');
    assert.equal(huge.ended, codes.excessive);
    huge.close();
    const cut = await open();
    cut.content(hex('02 07 01 04'));
    cut.end();
    await cut.until(() => cut.ended !== undefined, 'the end');
    assert.equal(cut.ended, codes.malformed);
    assert.equal((await endOf(cut)).reason, 'error');
    cut.close();
  });

  test('items 19, 30 inputs 39, 40 datagrams without a packet of theirs are dropped and counted, and the tunnel lives', async () => {
    const tunnel = await open();
    const packet = ping(tunnel);
    const before = { unknown: await drops('unknown_context'), malformed: await drops('malformed') };
    tunnel.content(encodeDatagramCapsule(concat(hex('02'), packet)));
    const bad = [
      new Uint8Array(0),
      hex('00'),
      concat(hex('00'), packet.subarray(0, 19)),
      concat(hex('00'), packet.with(0, 0x55)),
    ];
    for (const payload of bad) tunnel.content(encodeDatagramCapsule(payload));
    await waitFor(async () => (await drops('malformed')) >= before.malformed + bad.length, {
      timeoutMs: TIMEOUT_MS,
      what: 'the drops',
    });
    assert.deepEqual(
      [(await drops('unknown_context')) - before.unknown, (await drops('malformed')) - before.malformed],
      [1, bad.length],
    );
    await reaches(tunnel);
    tunnel.close();
  });

  test('item 15 the end of the client ends the tunnel: the node ends its side, and the addresses are free', async () => {
    const tunnel = await open();
    tunnel.end();
    await tunnel.until(() => tunnel.ended !== undefined, 'the end');
    assert.equal(tunnel.ended, 'end');
    const { reason, detail } = await endOf(tunnel);
    assert.deepEqual([reason, detail], ['client', 'end of stream']);
    tunnel.close();
  });

  test('input 48 a connection that ends inside of a capsule ends the tunnel, and its addresses with it', async () => {
    const tunnel = await open();
    tunnel.content(hex('02 07 01 04'));
    await reachesBeside(tunnel);
    tunnel.close();
    assert.equal((await endOf(tunnel)).reason, 'client');
  });

  /** What was sent on the stream before has arrived when a tunnel of another connection, opened since, carries packets. */
  const reachesBeside = async (_tunnel: RequestUnderTest): Promise<void> => {
    const other = await open();
    await reaches(other);
    other.close();
  };

  test('a client that is revoked loses its tunnel at once', async () => {
    const id = `revoked-${transport.id}`;
    const { token } = await cluster().api<{ token: string }>('POST', '/v1/clients', { id });
    // The node hears of the new token in its own time.
    const tunnel = await waitFor(
      async () => {
        const asked = await request({}, token);
        if (asked.status === 200) return asked;
        asked.close();
      },
      { timeoutMs: TIMEOUT_MS, what: `a tunnel of ${id}` },
    );
    await tunnel.until(() => tunnel.addresses.length > 0, 'addresses');
    await cluster().api('DELETE', `/v1/clients/${id}`);
    await tunnel.until(() => tunnel.ended !== undefined, 'the end');
    assert.equal(tunnel.ended, codes.cancelled);
    assert.equal((await endOf(tunnel)).reason, 'revoked');
    tunnel.close();
  });

  test('items 8, 10, 12 who gets no tunnel is told why by the status, as over every transport', async () => {
    const cases: readonly (readonly [RequestChanges, string | undefined, number, (readonly [string, string])?])[] = [
      [{}, 'not-the-token', 401, ['www-authenticate', 'Bearer']],
      [{}, undefined, 401, ['www-authenticate', 'Bearer']],
      [{ path: '/vpn' }, undefined, 404],
      [{ protocol: 'connect-udp' }, undefined, 501],
      [{ path: '/.well-known/masque/ip/*/44/' }, undefined, 501],
      [
        { path: '/.well-known/masque/ip/nowhere.invalid/*/' },
        cluster().client(clientId).token,
        502,
        ['proxy-status', 'masque-vpn; error=dns_error'],
      ],
    ];
    for (const [changes, token, status, field] of cases) {
      const refused = await transport.request(targetOf(cluster()), token, changes);
      assert.equal(refused.status, status, JSON.stringify(changes).slice(0, 100));
      if (field !== undefined) assert.equal(refused.field(field[0]), field[1]);
      assert.equal(refused.field('capsule-protocol'), undefined);
      refused.close();
    }
  });

  test('inputs 33, 34 a path with variables that are none is a malformed request', async () => {
    for (const path of ['%zz/*/', '10.0.0.1%2F24/*/', '*/256/', '*/1e1/']) {
      const refused = await request({ path: `/.well-known/masque/ip/${path}` });
      assert.deepEqual([refused.status, refused.ended], [0, codes.malformed], path);
      refused.close();
    }
  });

  test('9484-4.6 a scoped tunnel reaches what it asked for and nothing else', async () => {
    const tunnel = await open({ path: `/.well-known/masque/ip/${behind()}/17/` });
    // ICMP is part of every scope (4.8).
    await reaches(tunnel);
    const before = await drops('scope');
    const answers: Buffer[] = [];
    tunnel.onPacket = (bytes) => answers.push(bytes);
    tunnel.packet(udpPacket(tunnel.addresses[0] ?? '', '203.0.113.7'));
    await tunnel.until(() => answers.length > 0, 'what is said about it');
    // Destination unreachable, no route.
    assert.deepEqual([...(answers[0]?.subarray(20, 22) ?? [])], [3, 0]);
    await waitFor(async () => (await drops('scope')) === before + 1, { timeoutMs: TIMEOUT_MS, what: 'the drop' });
    tunnel.close();
  });

  test('a client that reads nothing costs itself alone, and a bounded number of bytes', async () => {
    const slow = await open();
    const sender = await open();
    const other = await open();
    let bytes = 0;
    slow.onPacket = (packet) => {
      bytes += packet.length;
    };
    slow.pause();
    const before = await drops('queue_full');
    const packet = udpPacket(sender.addresses[0] ?? '', slow.addresses[0] ?? '', new Uint8Array(1_372));
    let sent = 0;
    await sender.until(
      async () => {
        for (let i = 0; i < 200; i++) sender.packet(packet);
        sent += 200 * packet.length;
        return sent > MAX_IN_FLIGHT_BYTES && (await drops('queue_full')) > before;
      },
      'packets that are dropped',
      TIMEOUT_MS,
    );
    await reaches(other);
    slow.resume();
    await reaches(slow);
    assert.ok(bytes <= MAX_IN_FLIGHT_BYTES, `${bytes} bytes`);
    for (const tunnel of [slow, sender, other]) tunnel.close();
  });
}
