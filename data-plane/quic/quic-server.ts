import { ConnectionIdTable } from './connection-id-table.ts';
import type { QuicServerOptions } from './core-handle.ts';
import { InitialGate, RETRY_FROM_HANDSHAKES } from './initial-gate.ts';
import { createConnectionIds, isHandshakePacket, MAX_CONNECTION_ID_BYTES, readConnectionIds } from './packet-header.ts';
import { isCoreTrap, QuicEndpoint } from './quic-endpoint.ts';
import type { QuicServerState } from './quic-server-state.ts';

/** Connections that share one core: what one abort can cost, and what a scan over all of them takes (0.2 to 0.5 us each). */
export const CONNECTIONS_PER_CELL = 256;
/** The longest that an id stays known which no packet uses: twice QUIC's idle timeout. */
const FORGET_IDS_AFTER_MS = 60_000;
/** Cores with identities of old that may stay for the sake of their connections (ours); a core takes 35 MB. */
const MAX_OUTDATED_CELLS = 8;
/** Ids that are kept (ours): strangers can make up as many as they like. Beyond it, new ones are spread by their bytes. */
const MAX_IDS = 65_536;

/** One connection of the server: its endpoint, and its number there. */
export interface QuicConnection {
  readonly endpoint: QuicEndpoint;
  readonly number: number;
  readonly peer: string;
}

/** As QuicEvents, for connections of all cells. */
export interface QuicServerEvents {
  onConnection(connection: QuicConnection): ServerConnectionEvents;
}

/** What one connection is told. Byte views are good until the handler returns. */
export interface ServerConnectionEvents {
  onHandshakeComplete(clientCertificate: boolean): void;
  onStreamData(streamId: number, bytes: Uint8Array, fin: boolean): void;
  onStreamReset(streamId: number, errorCode: number): void;
  onDatagram(bytes: Uint8Array, offset: number, length: number): void;
  onClosed(errorCode: number, reason: string): void;
  /** The core that carries the connection is to be given up: it must close. */
  onRetired(): void;
  /** The core that carried the connection aborted. */
  onLost(cause: unknown): void;
}

interface Cell {
  readonly slot: number;
  /** Its core demands tokens, and tells the clients what those expect that were sent a Retry (RFC 9000 7.3). */
  readonly retried: boolean;
  /** How many identities came before the one that it shows: a core never takes another. */
  readonly generation: number;
  readonly endpoint: QuicEndpoint;
  readonly connections: Map<number, ServerConnectionEvents>;
  /** Those of them whose handshake is not complete. */
  readonly handshakes: Set<number>;
  /** First packets of strangers since the last `processEvents`: each may become a connection, and the core counts it already. */
  beginning: number;
  /** When `onTimeout` is due, on the caller's clock. */
  dueMs: number;
}

/**
 * A QUIC server of several cores. Packets find their core by destination connection id, new connections go to the emptiest. Clients
 * that had to show their address (`InitialGate`) have cores of their own, because a core asks all or nobody for a token. When a
 * core aborts, a call throws what `isCoreTrap` knows; after `recover`, what that core carried is lost and nothing else.
 */
export class QuicServer {
  /** Of one cell. */
  #options: QuicServerOptions;
  readonly #retryKey: Uint8Array;
  readonly #events: QuicServerEvents;
  readonly #onCoreMessage: (text: string) => void;
  readonly #maxConnections: number;
  readonly #gate: InitialGate;
  readonly #cells: (Cell | undefined)[] = [];
  readonly #ids = new ConnectionIdTable();
  readonly #packetIds = createConnectionIds();
  #generation = 0;
  #aborted = 0;
  #connectionsRefused = 0;

  constructor(
    options: QuicServerOptions & {
      readonly retryKey: Uint8Array;
      /** Handshakes in flight from which on new clients are sent a Retry. */
      readonly retryFrom?: number;
      readonly connectionsPerCell?: number;
    },
    events: QuicServerEvents,
    onCoreMessage: (text: string) => void,
  ) {
    const { connectionsPerCell = CONNECTIONS_PER_CELL, retryFrom = RETRY_FROM_HANDSHAKES, ...server } = options;
    const { retryKey, ...ofCell } = server;
    this.#options = { ...ofCell, maxConnections: connectionsPerCell };
    this.#retryKey = retryKey;
    this.#gate = new InitialGate(retryKey, retryFrom);
    this.#events = events;
    this.#onCoreMessage = onCoreMessage;
    this.#maxConnections = options.maxConnections;
    this.#openCell(false);
  }

  state(): QuicServerState {
    return {
      ...this.#gate.state,
      connections: this.#sum((cell) => cell.connections.size),
      handshakes: this.#sum((cell) => cell.handshakes.size),
      connectionsRefused: this.#connectionsRefused,
      cores: this.#sum(() => 1),
      memoryBytes: this.#sum((cell) => cell.endpoint.memoryBytes),
      abortedCores: this.#aborted,
    };
  }

  /**
   * One UDP datagram from a peer (`ip:port`) at `nowMs`. What belongs to no connection and cannot begin one is dropped. False when it is of a
   * connection that began before: it may be of another server on this address.
   */
  receive(bytes: Uint8Array, offset: number, length: number, peer: string, nowMs: number): boolean {
    const cell = this.#cellOf(bytes, offset, length, peer, nowMs);
    if (cell === undefined) return true;
    if (cell === 'foreign') return false;
    cell.endpoint.receive(bytes, offset, length, peer);
    return true;
  }

  /** A datagram for which `receive` of another server on this address answered false. False here: its connection is not ours either. */
  receiveHanded(bytes: Uint8Array, offset: number, length: number, peer: string, nowMs: number): boolean {
    const ids = this.#packetIds;
    if (readConnectionIds(bytes, offset, length, MAX_CONNECTION_ID_BYTES, ids) === 'invalid') return false;
    const slot = this.#ids.get(bytes, ids.destinationOffset, ids.destinationLength, nowMs);
    if (slot < 0) return false;
    this.#cells[slot]?.endpoint.receive(bytes, offset, length, peer);
    return true;
  }

  /** Hands out what happened since the last call. */
  processEvents(): void {
    for (const cell of this.#cells) {
      if (cell === undefined) continue;
      if (cell.endpoint.hasWork) cell.endpoint.processEvents();
      cell.beginning = 0;
    }
  }

  /** Takes every packet that has to be sent now; `send` copies it. Cells at rest are not asked. */
  flush(send: (bytes: Uint8Array, offset: number, length: number, peer: string) => void, nowMs: number): void {
    this.#gate.flush(send);
    for (const cell of this.#cells) {
      if (cell === undefined || cell.endpoint.flushDueMs > nowMs) continue;
      cell.endpoint.flush((bytes, offset, length, peer) => {
        this.#learnId(cell, bytes, offset, length, nowMs);
        send(bytes, offset, length, peer);
      });
      const timeoutMs = cell.endpoint.timeoutMs();
      cell.dueMs = timeoutMs < 0 ? Number.POSITIVE_INFINITY : nowMs + timeoutMs;
    }
  }

  /** Milliseconds from `nowMs` until `onTimeout` or `flush` is due, or -1 when nothing is. */
  timeoutMs(nowMs: number): number {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const cell of this.#cells) {
      if (cell !== undefined) dueMs = Math.min(dueMs, cell.dueMs, cell.endpoint.flushDueMs);
    }
    return Number.isFinite(dueMs) ? Math.max(0, dueMs - nowMs) : -1;
  }

  /** Lets the timers run that are due at `nowMs`. */
  onTimeout(nowMs: number): void {
    for (const cell of this.#cells) {
      if (cell === undefined || cell.dueMs > nowMs) continue;
      cell.endpoint.onTimeout();
    }
  }

  /** After any call threw, also one to an endpoint: gives up the cores that aborted. Throws what was no abort again. */
  recover(error: unknown): void {
    const broken = this.#cells.filter((cell) => cell?.endpoint.broken);
    if (!isCoreTrap(error) || broken.length === 0) throw error;
    for (const cell of broken) if (cell !== undefined) this.#giveUp(cell, error);
  }

  /**
   * New connections get this identity from now on. Those that are there keep theirs, in their cells, which are freed when they are
   * empty; of more than MAX_OUTDATED_CELLS, the oldest are given up. Throws QuicConfigError, and nothing has changed then. Takes
   * some 20 ms, as every new core does.
   */
  renew(identity: Pick<QuicServerOptions, 'cert' | 'key' | 'clientCa'>): void {
    const before = this.#options;
    this.#options = { ...before, ...identity };
    this.#generation++;
    try {
      this.#openCell(false);
    } catch (error) {
      this.#options = before;
      this.#generation--;
      throw error;
    }
    this.#freeEmptyCells();
    const outdated = this.#cells
      .filter((cell) => cell !== undefined)
      .filter(({ generation, connections }) => generation !== this.#generation && connections.size > 0)
      .sort((a, b) => a.generation - b.generation);
    for (const cell of outdated.slice(0, -MAX_OUTDATED_CELLS)) {
      for (const connection of [...cell.connections.values()]) connection.onRetired();
    }
  }

  /** Forgets ids that nobody uses and gives back the memory of empty cells. To be called every few seconds. */
  sweep(nowMs: number): void {
    this.#freeEmptyCells();
    const cells = this.#cells;
    this.#ids.sweep((slot, usedMs) => nowMs - usedMs > FORGET_IDS_AFTER_MS || cells[slot] === undefined);
  }

  // One is kept for those to come.
  #freeEmptyCells(): void {
    let kept = false;
    for (const cell of this.#cells) {
      if (cell === undefined) continue;
      const isNext: boolean = !cell.retried && cell.generation === this.#generation && !kept;
      kept ||= isNext;
      if (isNext || cell.connections.size + cell.beginning > 0 || cell.endpoint.hasWork) continue;
      cell.endpoint.free();
      this.#cells[cell.slot] = undefined;
    }
  }

  #cellOf(
    bytes: Uint8Array,
    offset: number,
    length: number,
    peer: string,
    nowMs: number,
  ): Cell | 'foreign' | undefined {
    const ids = this.#packetIds;
    const form = readConnectionIds(bytes, offset, length, MAX_CONNECTION_ID_BYTES, ids);
    if (form === 'invalid') return undefined;
    if (form === 'other_version') {
      this.#gate.negotiateVersion(bytes, length, ids, peer);
      return undefined;
    }
    const slot = this.#ids.get(bytes, ids.destinationOffset, ids.destinationLength, nowMs);
    if (slot >= 0) return this.#cells[slot];
    if (form === 'short' || isHandshakePacket(bytes, offset)) return 'foreign';
    const handshakes = this.#sum((cell) => cell.handshakes.size + cell.beginning);
    const verdict = this.#gate.admit(bytes, offset, length, ids, peer, handshakes);
    if (verdict === 'refused') return undefined;
    if (this.#sum((cell) => cell.connections.size + cell.beginning) >= this.#maxConnections) {
      this.#connectionsRefused++;
      return undefined;
    }
    const cell = this.#emptiest(verdict === 'retried');
    cell.beginning++;
    // The rest of a client's first flight carries the same id.
    if (this.#ids.size < MAX_IDS) {
      this.#ids.set(bytes, ids.destinationOffset, ids.destinationLength, cell.slot, nowMs);
    }
    return cell;
  }

  #learnId(cell: Cell, bytes: Uint8Array, offset: number, length: number, nowMs: number): void {
    const ids = this.#packetIds;
    if (readConnectionIds(bytes, offset, length, MAX_CONNECTION_ID_BYTES, ids) !== 'long') return;
    this.#ids.set(bytes, ids.sourceOffset, ids.sourceLength, cell.slot, nowMs);
  }

  // One is opened only where all of its kind are full, so there are no more than the connections need, and one of each kind.
  #emptiest(retried: boolean): Cell {
    let emptiest: Cell | undefined;
    let fewest = this.#options.maxConnections;
    for (const cell of this.#cells) {
      if (cell?.retried !== retried || cell.generation !== this.#generation) continue;
      if (cell.connections.size + cell.beginning >= fewest) continue;
      emptiest = cell;
      fewest = cell.connections.size + cell.beginning;
    }
    return emptiest ?? this.#openCell(retried);
  }

  #sum(of: (cell: Cell) => number): number {
    let sum = 0;
    for (const cell of this.#cells) if (cell !== undefined) sum += of(cell);
    return sum;
  }

  #openCell(retried: boolean): Cell {
    const connections = new Map<number, ServerConnectionEvents>();
    const handshakes = new Set<number>();
    const endpoint: QuicEndpoint = new QuicEndpoint(
      retried ? { ...this.#options, retryKey: this.#retryKey } : this.#options,
      {
        onConnection: (number, peer) => {
          handshakes.add(number);
          connections.set(number, this.#events.onConnection({ endpoint, number, peer }));
        },
        onHandshakeComplete: (number, certificate) => {
          handshakes.delete(number);
          connections.get(number)?.onHandshakeComplete(certificate);
        },
        onStreamData: (number, streamId, bytes, fin) => connections.get(number)?.onStreamData(streamId, bytes, fin),
        onStreamReset: (number, streamId, code) => connections.get(number)?.onStreamReset(streamId, code),
        onDatagram: (number, bytes, offset, length) => connections.get(number)?.onDatagram(bytes, offset, length),
        onClosed: (number, code, reason) => {
          const connection = connections.get(number);
          connections.delete(number);
          handshakes.delete(number);
          connection?.onClosed(code, reason);
        },
      },
      this.#onCoreMessage,
    );
    const free = this.#cells.indexOf(undefined);
    const slot = free < 0 ? this.#cells.length : free;
    const state = { beginning: 0, dueMs: Number.POSITIVE_INFINITY };
    const cell: Cell = {
      slot,
      retried,
      generation: this.#generation,
      endpoint,
      connections,
      handshakes,
      ...state,
    };
    this.#cells[slot] = cell;
    return cell;
  }

  #giveUp(cell: Cell, error: unknown): void {
    this.#aborted++;
    this.#cells[cell.slot] = undefined;
    this.#ids.sweep((slot) => slot === cell.slot);
    for (const connection of cell.connections.values()) connection.onLost(error);
  }
}
