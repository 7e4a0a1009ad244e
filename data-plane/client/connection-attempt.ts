import { describeError } from '../../shared/errors.ts';
import type { ClientThreadCommand, ClientThreadReport, ConnectOptions } from './client-messages.ts';
import { Http2Client } from './http2-client.ts';
import {
  advanceRace,
  HEAD_START_MS,
  type Race,
  type RaceAction,
  type RaceEvent,
  type RaceStep,
  startRace,
  type Transport,
  type TransportChoice,
} from './transport-race.ts';

export interface AttemptHost {
  /** To the packet thread, which runs HTTP/3. */
  post(command: ClientThreadCommand): void;
  /** There is no tunnel, or no longer one; nothing follows. */
  onEnded(reason: string): void;
}

type AttemptReport = Extract<ClientThreadReport, { type: 'prepared' | 'http3Ready' | 'ended' }>;

/** One attempt to open a tunnel, by a race of HTTP/3 and HTTP/2, and the tunnel that comes of it, to its end. */
export class ConnectionAttempt {
  readonly number: number;
  readonly #choice: TransportChoice;
  readonly #options: ConnectOptions;
  readonly #host: AttemptHost;
  #race: Race | undefined;
  #headStart: NodeJS.Timeout | undefined;
  #http2: Http2Client | undefined;
  #ended = false;

  constructor(number: number, choice: TransportChoice, options: ConnectOptions, host: AttemptHost) {
    this.number = number;
    this.#choice = choice;
    this.#options = options;
    this.#host = host;
    host.post({ type: 'prepare', attempt: number, serverAddress: options.serverAddress });
  }

  /** What won the race; undefined before. */
  get transport(): Transport | undefined {
    return this.#race?.state === 'won' ? this.#race.by : undefined;
  }

  /** What the packet thread says of this attempt. */
  receive(report: AttemptReport): void {
    if (this.#ended) return;
    switch (report.type) {
      case 'prepared':
        if (report.problem === undefined) this.#start();
        else this.#end(report.problem);
        return;
      case 'http3Ready':
        this.#advance({ type: 'ready', transport: 'http3' });
        return;
      case 'ended': {
        const { transport, reason, errorCode } = report;
        if (this.transport === undefined) this.#advance({ type: 'failed', transport, reason });
        else if (this.transport === transport) this.#end(this.#http2?.endReason ?? reason, errorCode);
        return;
      }
      default:
        report satisfies never;
    }
  }

  /** Ends what the main thread has of it; nothing follows. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#headStart);
    this.#http2?.close();
  }

  #start(): void {
    this.#take(startRace(this.#choice));
    this.#headStart = setTimeout(() => this.#advance({ type: 'headStartOver' }), HEAD_START_MS);
  }

  #advance(event: RaceEvent): void {
    if (this.#race !== undefined && !this.#ended) this.#take(advanceRace(this.#race, event));
  }

  #take({ race, actions }: RaceStep): void {
    this.#race = race;
    if (race.state !== 'open') clearTimeout(this.#headStart);
    for (const action of actions) this.#act(action);
  }

  #act(action: RaceAction): void {
    switch (action.type) {
      case 'start':
        if (action.transport === 'http3') this.#host.post({ type: 'connectHttp3', options: this.#options });
        else this.#startHttp2();
        return;
      case 'request':
        if (action.transport === 'http3') this.#host.post({ type: 'requestHttp3' });
        else this.#http2?.sendRequest();
        return;
      case 'close':
        if (action.transport === 'http3') this.#host.post({ type: 'closeHttp3' });
        else this.#http2?.close();
        return;
      case 'giveUp':
        this.#end(action.reason);
        return;
      default:
        action satisfies never;
    }
  }

  #startHttp2(): void {
    const failed = (reason: string): void => {
      if (this.transport === 'http2') this.#end(reason);
      else this.#advance({ type: 'failed', transport: 'http2', reason });
    };
    try {
      this.#http2 = new Http2Client(this.#options, {
        onReady: () => this.#advance({ type: 'ready', transport: 'http2' }),
        onOpen: (fd) => this.#host.post({ type: 'attach', fd, serverAddress: this.#options.serverAddress }),
        onFailed: failed,
      });
    } catch (error) {
      failed(describeError(error));
    }
  }

  #end(reason: string, errorCode?: number): void {
    this.#ended = true;
    clearTimeout(this.#headStart);
    this.#http2?.close(errorCode);
    this.#host.onEnded(reason);
  }
}
