import { H3_EXCESSIVE_LOAD, H3_MESSAGE_ERROR, H3_REQUEST_CANCELLED } from '../../data-plane/http3/error-codes.ts';
import { FRAME_DATA, FRAME_SESSION_STREAM } from '../../data-plane/http3/frame.ts';
import { TlvReader } from '../../data-plane/http3/tlv-reader.ts';
import { encodeVarint } from '../../data-plane/http3/varint.ts';
import { readCloseCode, SESSION_CLOSE } from '../../data-plane/webtransport/session-capsule.ts';
import { ClientEnd } from './client-end.ts';
import { TestPeer } from './test-peer.ts';
import {
  PAUSED_TURN_MS,
  type RequestUnderTest,
  type StreamEnd,
  type TransportUnderTest,
  TURN_MS,
} from './transport-under-test.ts';

const REQUEST_STREAM = 0;
const CAPSULE_STREAM = 4;

/** Sessions as browsers open them. */
export const webTransportOverHttp3: TransportUnderTest = {
  id: 'webtransport-http3',
  name: 'webtransport',
  codes: { malformed: H3_MESSAGE_ERROR, excessive: H3_EXCESSIVE_LOAD, cancelled: H3_REQUEST_CANCELLED },
  async request(target, token, changes) {
    const peer = await TestPeer.connect(target);
    const session = new Http3SessionPeer(peer);
    session.answered(await peer.request(token, { protocol: 'webtransport', ...changes }));
    return session;
  },
};

class Http3SessionPeer extends ClientEnd implements RequestUnderTest {
  status = 0;
  readonly #peer: TestPeer;
  #closeCode: number | undefined;
  /** The frames of the request's stream, and the capsules in them. */
  readonly #control = new TlvReader({
    onHeader: (type) => (type === SESSION_CLOSE ? 'whole' : 'skip'),
    onWhole: (_type, value) => {
      this.#closeCode = readCloseCode(value);
    },
    onPiece: () => {},
  });
  readonly #frames = new TlvReader({
    onHeader: (type) => (type === FRAME_DATA ? 'pieces' : 'skip'),
    onWhole: () => {},
    onPiece: (_type, bytes) => this.#control.push(bytes),
  });

  constructor(peer: TestPeer) {
    super();
    this.#peer = peer;
    peer.onPacket = (packet) => this.onPacket(packet);
    peer.onStream = (streamId, bytes) => {
      if (streamId === REQUEST_STREAM) this.#frames.push(bytes);
      if (streamId === CAPSULE_STREAM) this.receiveContent(bytes);
    };
  }

  answered(status: number): void {
    this.status = status;
    if (status !== 200) return;
    this.content(Buffer.concat([encodeVarint(FRAME_SESSION_STREAM), encodeVarint(REQUEST_STREAM)]));
  }

  get ended(): StreamEnd | undefined {
    if (this.status !== 200) return this.#peer.resets.get(REQUEST_STREAM);
    return this.#closeCode === 0 ? 'end' : this.#closeCode;
  }
  field(name: string): string | undefined {
    return this.#peer.responses.get(REQUEST_STREAM)?.fields.find(([field]) => field === name)?.[1];
  }
  packet(bytes: Uint8Array): void {
    this.#peer.packet(bytes);
  }
  content(bytes: Uint8Array): void {
    this.#peer.raw(CAPSULE_STREAM, bytes);
  }
  end(): void {
    this.#peer.raw(CAPSULE_STREAM, new Uint8Array(0), true);
  }
  pause(): void {
    this.#peer.pace(PAUSED_TURN_MS);
  }
  resume(): void {
    this.#peer.pace(TURN_MS);
  }
  close(): void {
    this.#peer.close();
  }
  until(done: () => unknown, what: string, timeoutMs?: number): Promise<unknown> {
    return this.#peer.until(done, what, timeoutMs);
  }
}
