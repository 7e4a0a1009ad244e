import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { datagramPayloadOffset } from '../../../data-plane/http3/datagram.ts';
import { H3_REQUEST_CANCELLED } from '../../../data-plane/http3/error-codes.ts';
import { Http3Connection } from '../../../data-plane/http3/http3-connection.ts';
import type { Http3Events, Http3Role, Http3Transport } from '../../../data-plane/http3/http3-endpoint.ts';
import { encodeAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import { buildConnectIpRequest } from '../../../data-plane/masque/build-connect-ip-request.ts';
import { CapsuleReader } from '../../../data-plane/masque/capsule-reader.ts';
import { decideConnectIp } from '../../../data-plane/masque/connect-ip-request.ts';
import {
  readConnectIpResponse,
  refusalFields,
  TUNNEL_RESPONSE_FIELDS,
  TUNNEL_STATUS,
} from '../../../data-plane/masque/connect-ip-response.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import { ipPacketOffset, writeIpContext } from '../../../data-plane/masque/ip-datagram.ts';
import { compilePathTemplate, DEFAULT_PATH_TEMPLATE } from '../../../data-plane/masque/path-template.ts';
import { encodeRouteAdvertisement, routeToPrefix } from '../../../data-plane/masque/route-advertisement.ts';
import { formatPrefix, parsePrefix } from '../../../shared/ip/prefix.ts';

const SERVICE = { pathTemplate: compilePathTemplate(DEFAULT_PATH_TEMPLATE) };

type Chunker = () => number;

/** Two connections with an ordered pipe per stream between them, which hands over as many bytes at a time as it is told. */
class Pipe {
  readonly log: string[] = [];
  readonly server: Party;
  readonly client: Party;
  readonly #chunk: Chunker;

  constructor(chunk: Chunker) {
    this.#chunk = chunk;
    this.server = new Party('server', this.log);
    this.client = new Party('client', this.log);
    this.server.connection.start();
    this.client.connection.start();
    this.run();
  }

  /** Delivers until nothing is under way. */
  run(): void {
    while (this.#step(this.server, this.client) || this.#step(this.client, this.server)) {}
  }

  #step(from: Party, to: Party): boolean {
    const close = from.close;
    if (close !== undefined) return false;
    let moved = false;
    for (const [streamId, queued] of from.streams) {
      if (queued.bytes.length === 0 && !queued.fin) continue;
      const taken = queued.bytes.subarray(0, this.#chunk());
      queued.bytes = queued.bytes.subarray(taken.length);
      const fin = queued.fin && queued.bytes.length === 0;
      if (fin) queued.fin = false;
      // A copy that is overwritten afterwards shows if anyone kept it.
      const copy = Uint8Array.from(taken);
      to.connection.receiveStream(streamId, copy, fin);
      copy.fill(0xee);
      moved = true;
    }
    for (const { streamId, errorCode } of from.resets.splice(0)) {
      to.streams.delete(streamId);
      to.connection.streamReset(streamId, errorCode);
      moved = true;
    }
    return moved;
  }
}

class Party implements Http3Transport, Http3Events {
  readonly connection: Http3Connection;
  readonly streams = new Map<number, { bytes: Buffer; fin: boolean }>();
  readonly resets: { streamId: number; errorCode: number }[] = [];
  readonly #role: Http3Role;
  readonly #log: string[];
  readonly #capsules = new Map<number, CapsuleReader>();
  close: number | undefined;
  #next = 0;

  constructor(role: Http3Role, log: string[]) {
    this.#role = role;
    this.#log = log;
    this.connection = new Http3Connection(role, this, this);
  }

  sendStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    const before = this.streams.get(streamId);
    this.streams.set(streamId, { bytes: Buffer.concat([before?.bytes ?? Buffer.alloc(0), bytes]), fin });
  }
  resetStream(streamId: number, errorCode: number): void {
    this.streams.delete(streamId);
    this.resets.push({ streamId, errorCode });
  }
  closeConnection(errorCode: number): void {
    this.close = errorCode;
  }
  openRequestStream(): number {
    this.#next += 4;
    return this.#next - 4;
  }

  onSettings(): void {
    this.#say('settings');
  }
  onRequest(streamId: number, request: Parameters<Http3Events['onRequest']>[1]): void {
    const decision = decideConnectIp(request, SERVICE);
    if (decision.kind === 'rejected' || decision.token?.value !== 't0') {
      const status = decision.kind === 'rejected' ? decision.status : 401;
      this.connection.sendResponse(streamId, status, refusalFields(status), true);
      return;
    }
    this.#openTunnel(streamId);
    this.connection.sendResponse(streamId, TUNNEL_STATUS, TUNNEL_RESPONSE_FIELDS, false);
    const assigned = [{ requestId: 0n, prefix: parsePrefix('10.99.0.7/32') }];
    this.connection.sendData(streamId, encodeAddressAssign(assigned));
    this.connection.sendData(streamId, encodeRouteAdvertisement([routeToPrefix(parsePrefix('0.0.0.0/0'))]));
  }
  onResponse(streamId: number, status: number, fields: Parameters<Http3Events['onResponse']>[2]): void {
    this.#say(`response ${status}`);
    if (readConnectIpResponse(status, fields).kind === 'tunnel') this.#openTunnel(streamId);
  }
  onData(streamId: number, bytes: Uint8Array): void {
    this.#capsules.get(streamId)?.push(bytes);
  }
  onStreamEnd(streamId: number): void {
    this.#capsules.get(streamId)?.end();
    this.#say(`end ${streamId}`);
    this.connection.endStream(streamId);
  }
  onStreamReset(streamId: number, errorCode: number): void {
    this.#say(`reset ${streamId} 0x${errorCode.toString(16)}`);
  }
  onGoaway(id: number): void {
    this.#say(`goaway ${id}`);
  }
  onConnectionError(error: Error): void {
    this.#say(`error ${error.message}`);
  }

  #openTunnel(streamId: number): void {
    const reader = new CapsuleReader({
      onAddressAssign: (assigned) => {
        this.#say(`assigned ${assigned.map((one) => `${one.requestId}=${formatPrefix(one.prefix)}`).join()}`);
      },
      onAddressRequest: (requested) => {
        this.#say(`requested ${requested.map((one) => formatPrefix(one.prefix)).join()}`);
        const prefix = parsePrefix('fd00:99::7/128');
        const assigned = requested.map(({ requestId }) => ({ requestId, prefix }));
        this.connection.sendData(streamId, encodeAddressAssign(assigned));
      },
      onRouteAdvertisement: (routes) => this.#say(`routes ${routes.length}`),
      onDatagram: (payload) => this.#say(`datagram ${Buffer.from(payload).toString('hex')}`),
    });
    this.#capsules.set(streamId, reader);
  }

  #say(what: string): void {
    this.#log.push(`${this.#role}: ${what}`);
  }
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state;
  };
}

const CHUNKERS: Record<string, () => Chunker> = {
  'all at once': () => () => Number.POSITIVE_INFINITY,
  'one byte at a time': () => () => 1,
};
for (let seed = 1; seed <= 20; seed++) {
  CHUNKERS[`random chunks, seed ${seed}`] = () => {
    const next = random(seed);
    return () => 1 + ((next() >>> 8) % 17);
  };
}

for (const [name, chunker] of Object.entries(CHUNKERS)) {
  suite(`input 49 client and server, ${name}`, () => {
    const open = () => {
      const pipe = new Pipe(chunker());
      const id = pipe.client.connection.sendRequest(buildConnectIpRequest('https://vpn.example', 't0'));
      pipe.run();
      return { pipe, id, client: pipe.client, server: pipe.server };
    };

    test('a tunnel: capsules both ways, datagrams both ways, a clean end', () => {
      const { pipe, id, client, server } = open();
      assert.deepEqual(take(pipe, 'client'), ['settings', 'response 200', 'assigned 0=10.99.0.7/32', 'routes 1']);
      client.connection.sendData(id, encodeAddressRequest([{ requestId: 9n, prefix: parsePrefix('::/128') }]));
      server.connection.sendData(id, encodeDatagramCapsule(Uint8Array.of(0, 0x45)));
      pipe.run();
      assert.deepEqual(take(pipe, 'server'), ['settings', 'requested ::/128']);
      assert.deepEqual(take(pipe, 'client').toSorted(), ['assigned 9=fd00:99::7/128', 'datagram 0045']);

      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        const datagram = new Uint8Array(32);
        const header = from.connection.writeDatagramHeader(datagram, 0, id);
        const start = header + writeIpContext(datagram, header);
        datagram[start] = 0x45;
        assert.equal(to.connection.datagramStream(datagram, 0, 32), id);
        assert.equal(ipPacketOffset(datagram, datagramPayloadOffset(datagram, 0), 32), start);
      }

      client.connection.endStream(id);
      pipe.run();
      assert.deepEqual(take(pipe, 'server'), [`end ${id}`]);
      assert.deepEqual(take(pipe, 'client'), [`end ${id}`]);
      assert.equal(client.connection.openRequestStreams + server.connection.openRequestStreams, 0);
    });

    test('a wrong token gets 401 and does not touch the tunnel beside it', () => {
      const { pipe, id, client, server } = open();
      client.connection.sendRequest(buildConnectIpRequest('https://vpn.example', 'wrong'));
      pipe.run();
      assert.equal(take(pipe, 'client').at(-2), 'response 401');
      assert.ok(server.connection.sendData(id, encodeRouteAdvertisement([])));
      pipe.run();
      assert.deepEqual(take(pipe, 'client'), ['routes 0']);
      assert.equal(server.connection.openRequestStreams, 1);
    });

    test('a reset frees the stream on both sides', () => {
      const { pipe, id, client, server } = open();
      pipe.log.length = 0;
      client.connection.abortStream(id, H3_REQUEST_CANCELLED);
      pipe.run();
      assert.deepEqual(pipe.log, [`server: reset ${id} 0x10c`]);
      assert.equal(client.connection.openRequestStreams + server.connection.openRequestStreams, 0);
    });

    test('a malformed capsule aborts its stream alone', () => {
      const { pipe, id, client, server } = open();
      const other = client.connection.sendRequest(buildConnectIpRequest('https://vpn.example', 't0'));
      pipe.run();
      pipe.log.length = 0;
      client.connection.sendData(id, Uint8Array.of(2, 0));
      client.connection.sendData(other, encodeRouteAdvertisement([]));
      pipe.run();
      assert.deepEqual(take(pipe, 'client'), [`reset ${id} 0x10e`]);
      assert.deepEqual(take(pipe, 'server').toSorted(), [`reset ${id} 0x10e`, 'routes 0']);
      assert.equal(server.close, undefined);
      assert.equal(client.close, undefined);
    });

    test('item 40 GOAWAY: the tunnel lives, a new request is not sent, and the server ends the tunnel', () => {
      const { pipe, id, client, server } = open();
      pipe.log.length = 0;
      server.connection.announceShutdown();
      server.connection.refuseNewRequests();
      pipe.run();
      assert.deepEqual(pipe.log, ['client: goaway Infinity', 'client: goaway 4']);
      assert.throws(() => client.connection.sendRequest(buildConnectIpRequest('https://vpn.example', 't0')));
      server.connection.endStream(id);
      pipe.run();
      assert.deepEqual(take(pipe, 'client').at(-1), `end ${id}`);
      assert.equal(server.connection.openRequestStreams, 0);
      server.connection.close();
      assert.equal(server.close, 0x100);
    });
  });
}

/** The lines of one side, taken out of the log. */
function take(pipe: Pipe, side: Http3Role): string[] {
  const own = pipe.log.filter((line) => line.startsWith(side));
  pipe.log.splice(0, pipe.log.length, ...pipe.log.filter((line) => !line.startsWith(side)));
  return own.map((line) => line.slice(side.length + 2));
}
