import { randomInt } from 'node:crypto';
import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';
import { createEchoInfo, type EchoInfo, echoPacketBytes, readEcho, writeEcho } from '../ip/icmp-echo.ts';
import type { PacketInfo } from '../ip/packet-info.ts';

/** How often a tunnel with traffic is probed: ten samples in a window of 5 s. */
export const PROBE_INTERVAL_MS = 500;
/**
 * The same without traffic. It is often enough to keep the tunnel alive too: five probes may be lost before QUIC's idle timeout, and NATs
 * keep their mapping for longer (RFC 4787 4.3).
 */
export const IDLE_PROBE_INTERVAL_MS = 5_000;
/** A probe without an answer after this long is lost. */
const PROBE_TIMEOUT_MS = 2_000;
/** Marks our probes among the echo messages of others, so that neither end counts them as traffic. */
const PROBE_PAYLOAD = Buffer.from('mvpn-probe-v1\0\0\0', 'latin1');

/** What a new sample weighs in the smoothed latency (RFC 6298 2.3). */
const SMOOTHING = 1 / 8;

const echo: EchoInfo = createEchoInfo();

/** Whether an inspected packet is an echo message of ours: a probe of a node, or the answer to one. */
function isProbe(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
  if (readEcho(bytes, offset, info, echo) === 'none' || echo.payloadLength !== PROBE_PAYLOAD.length) return false;
  for (let i = 0; i < PROBE_PAYLOAD.length; i++) {
    if (bytes[offset + echo.payloadOffset + i] !== PROBE_PAYLOAD[i]) return false;
  }
  return true;
}

/**
 * The answer to a probe of a node, or undefined for any other packet. The client answers by itself, so that a host's routes and
 * packet filters do not make a working tunnel look dead.
 */
export function answerProbe(bytes: Uint8Array, offset: number, info: PacketInfo): Uint8Array | undefined {
  if (!isProbe(bytes, offset, info) || readEcho(bytes, offset, info, echo) !== 'request') return undefined;
  const addressAt = (at: number): Uint8Array => bytes.slice(offset + at, offset + at + info.addressLength);
  const answer = new Uint8Array(echoPacketBytes(info.addressLength, PROBE_PAYLOAD.length));
  const { identifier, sequence } = echo;
  const source = addressAt(info.destinationOffset);
  const destination = addressAt(info.sourceOffset);
  writeEcho(answer, 0, { kind: 'reply', source, destination, identifier, sequence, payload: PROBE_PAYLOAD });
  return answer;
}

/** Measures latency and loss of one tunnel by ICMP echo requests from the node's address to the client's. */
export class EchoProbe {
  readonly #identifier = randomInt(0x10000);
  readonly #source: Uint8Array;
  readonly #destination: Uint8Array;
  readonly #pending = new Map<number, number>();
  readonly #packet: Uint8Array;
  #sequence = 0;
  #sentMs = Number.NEGATIVE_INFINITY;
  #answered = 0;
  #lost = 0;
  #latenciesMs: number[] = [];
  #smoothedMs: number | null = null;

  constructor(nodeAddress: string, clientAddress: string) {
    this.#source = addressToBytes(parseAddress(nodeAddress));
    this.#destination = addressToBytes(parseAddress(clientAddress));
    this.#packet = new Uint8Array(echoPacketBytes(this.#source.length, PROBE_PAYLOAD.length));
  }

  /** Smoothed latency in milliseconds; null while nothing was answered. */
  get smoothedMs(): number | null {
    return this.#smoothedMs;
  }

  /** To be called every PROBE_INTERVAL_MS: the probe to be sent, good until the next call, or undefined while none is due. */
  next(nowMs: number, hasTraffic: boolean): Uint8Array | undefined {
    for (const [sequence, sentMs] of this.#pending) {
      if (nowMs - sentMs < PROBE_TIMEOUT_MS) break;
      this.#pending.delete(sequence);
      this.#lost++;
    }
    if (!hasTraffic && nowMs - this.#sentMs < IDLE_PROBE_INTERVAL_MS) return undefined;
    this.#sentMs = nowMs;
    this.#sequence = (this.#sequence + 1) & 0xffff;
    this.#pending.set(this.#sequence, nowMs);
    writeEcho(this.#packet, 0, {
      kind: 'request',
      source: this.#source,
      destination: this.#destination,
      identifier: this.#identifier,
      sequence: this.#sequence,
      payload: PROBE_PAYLOAD,
    });
    return this.#packet;
  }

  /** Takes an inspected packet from the client; true when it is a probe's answer, which goes no further. */
  takeAnswer(bytes: Uint8Array, offset: number, info: PacketInfo, nowMs: number): boolean {
    if (!isProbe(bytes, offset, info) || echo.identifier !== this.#identifier) return false;
    const sentMs = this.#pending.get(echo.sequence);
    if (sentMs !== undefined) {
      this.#pending.delete(echo.sequence);
      const latencyMs = nowMs - sentMs;
      this.#answered++;
      this.#latenciesMs.push(latencyMs);
      const before = this.#smoothedMs ?? latencyMs;
      this.#smoothedMs = before + SMOOTHING * (latencyMs - before);
    }
    return true;
  }

  /** What was settled since the last call: answered, or lost. */
  takeResults(): { sent: number; answered: number; latenciesMs: number[] } {
    const results = { sent: this.#answered + this.#lost, answered: this.#answered, latenciesMs: this.#latenciesMs };
    this.#answered = 0;
    this.#lost = 0;
    this.#latenciesMs = [];
    return results;
  }
}
