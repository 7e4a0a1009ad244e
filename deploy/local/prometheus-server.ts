import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ManagedProcess, startProcess } from './child-process.ts';
import { freePort } from './free-port.ts';
import { HttpStatusError, httpRequest, isOk } from './http-client.ts';

const CONFIGURATION = fileURLToPath(new URL('../prometheus', import.meta.url));
const HOST = '127.0.0.1';
const READY_TIMEOUT_MS = 30_000;

export interface PrometheusOptions {
  /** Holds the configuration, the time series and the log. */
  readonly directory: string;
  /** One of the project's files in deploy/prometheus. */
  readonly configuration: 'prometheus.yml' | 'federation.yml';
  /** What takes the place of the targets in that file, e.g. `{ 'prometheus:9090': '127.0.0.1:40001' }`. */
  readonly targets: Readonly<Record<string, string>>;
  /** Instead of the file's 15 s. */
  readonly interval?: string;
}

export interface PrometheusServer {
  readonly url: string;
  /** `host:port`, for the federation of this one. */
  readonly target: string;
  readonly process: ManagedProcess;
  /** An instant query; one entry a series. */
  query(expression: string): Promise<readonly QueryResult[]>;
  stop(): Promise<void>;
}

export interface QueryResult {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Starts a real Prometheus on the project's own configuration. Needs `prometheus` on PATH. */
export async function startPrometheus(options: PrometheusOptions): Promise<PrometheusServer> {
  const { directory } = options;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  cpSync(join(CONFIGURATION, 'rules.yml'), join(directory, 'rules.yml'));
  let text = readFileSync(join(CONFIGURATION, options.configuration), 'utf8');
  for (const [from, to] of Object.entries(options.targets)) {
    if (!text.includes(from)) throw new Error(`${options.configuration} has no target ${from}`);
    text = text.replaceAll(from, to);
  }
  if (options.interval !== undefined)
    text = text.replace(/(scrape|evaluation)_interval: .*/g, `$1_interval: ${options.interval}`);
  const file = join(directory, options.configuration);
  writeFileSync(file, text);
  const target = `${HOST}:${await freePort(HOST)}`;
  const url = `http://${target}`;
  const child = await startProcess({
    name: 'prometheus',
    command: 'prometheus',
    args: [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=${target}`,
      '--log.level=warn',
    ],
    logFile: join(directory, 'prometheus.log'),
  });
  try {
    await child.untilReady(() => isOk(`${url}/-/ready`), 'readiness', READY_TIMEOUT_MS);
  } catch (error) {
    await child.kill();
    throw error;
  }
  return {
    url,
    target,
    process: child,
    async query(expression) {
      const path = `${url}/api/v1/query?query=${encodeURIComponent(expression)}`;
      const answer = await httpRequest('GET', path);
      if (answer.status !== 200) throw new HttpStatusError('GET', path, answer);
      const { data } = JSON.parse(answer.body) as {
        data: { result: { metric: Record<string, string>; value: [number, string] }[] };
      };
      return data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
    },
    stop: async () => void (await child.stop()),
  };
}
