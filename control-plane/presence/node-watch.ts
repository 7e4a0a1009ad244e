import { PRESENCE_TIMEOUT_MS } from '../../shared/nats/messages.ts';

/** When each node was last heard, on this process's monotonic clock. Pure but for its own map: time comes with the calls. */
export class NodeWatch {
  private readonly heard = new Map<string, number>();
  /** Since when silence counts; undefined while this process is cut off itself and cannot judge anybody. */
  private listeningSince: number | undefined;

  isListening(): boolean {
    return this.listeningSince !== undefined;
  }

  /** NATS answers (again): nobody's silence before this moment counts. */
  startListening(nowMs: number): void {
    this.listeningSince = nowMs;
  }

  stopListening(): void {
    this.listeningSince = undefined;
  }

  hear(node: string, nowMs: number): void {
    this.heard.set(node, nowMs);
  }

  /** Those of `nodes` that were silent for PRESENCE_TIMEOUT_MS while this process was listening all the time. */
  silent(nodes: Iterable<string>, nowMs: number): string[] {
    const { listeningSince } = this;
    if (listeningSince === undefined) return [];
    const lastSign = (node: string) => Math.max(listeningSince, this.heard.get(node) ?? listeningSince);
    return [...nodes].filter((node) => nowMs - lastSign(node) >= PRESENCE_TIMEOUT_MS);
  }
}
