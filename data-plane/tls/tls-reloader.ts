import { isDeepStrictEqual } from 'node:util';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { certificateEnd, checkTlsIdentity, readTlsIdentity, type TlsFiles, type TlsIdentity } from './tls-identity.ts';

/** How often the files are read (ours). Watching them would miss a swapped symlink. */
const CHECK_INTERVAL_MS = 5_000;

export interface TlsReloaderState {
  /** When the certificate in use ends. */
  readonly end: Date;
  readonly renewed: number;
  /** Sets of files that were no identity. */
  readonly refused: number;
}

export interface TlsReloaderOptions {
  readonly files: TlsFiles;
  /** What is in use. */
  readonly identity: TlsIdentity;
  readonly log: Logger;
  readonly onRenewed: (identity: TlsIdentity) => void;
}

/** Finds out that the node's certificate was renewed on disk. What cannot be used leaves everything as it is, and is told once. */
export class TlsReloader {
  readonly #options: TlsReloaderOptions;
  #identity: TlsIdentity;
  #timer: NodeJS.Timeout | undefined;
  #renewed = 0;
  #refused = 0;
  /** What was wrong when the files were read last, and whether that was told. */
  #problem: { readonly text: string; readonly told: boolean } | undefined;

  constructor(options: TlsReloaderOptions) {
    this.#options = options;
    this.#identity = options.identity;
  }

  /** What is in use. */
  get identity(): TlsIdentity {
    return this.#identity;
  }

  get state(): TlsReloaderState {
    return { end: certificateEnd(this.#identity), renewed: this.#renewed, refused: this.#refused };
  }

  start(): void {
    this.#timer = setInterval(() => this.check(false), CHECK_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Reads the files. Unless somebody `asked`, what is wrong must be so twice before it is told: a certificate and its key are written
   * one after the other.
   */
  check(asked: boolean): void {
    const { files, log } = this.#options;
    try {
      const identity = readTlsIdentity(files);
      if (isDeepStrictEqual(identity, this.#identity)) {
        this.#problem = undefined;
        if (asked) log.info('the certificate on disk is the one in use');
        return;
      }
      checkTlsIdentity(identity, files, new Date());
      this.#identity = identity;
    } catch (error) {
      this.#failed(describeError(error), asked);
      return;
    }
    this.#problem = undefined;
    this.#renewed++;
    this.#options.onRenewed(this.#identity);
    log.info({ until: certificateEnd(this.#identity) }, 'new connections get the renewed certificate');
  }

  #failed(text: string, asked: boolean): void {
    const before = this.#problem?.text === text ? this.#problem : undefined;
    const tell = asked || before?.told === false;
    this.#problem = { text, told: tell || before?.told === true };
    if (!tell) return;
    this.#refused++;
    this.#options.log.error(`the certificate on disk cannot be used, the old one stays in use: ${text}`);
  }
}
