import { ConfigError, EXIT_BAD_CONFIG } from '../../shared/config/parse-config.ts';
import { describeError, errorCode } from '../../shared/errors.ts';
import { createLogger } from '../../shared/log/logger.ts';
import { CLIENT_USAGE, type ClientConfig, parseClientConfig } from './config.ts';
import { VpnClient } from './vpn-client.ts';

const EXIT_FAILED = 1;
/** After a stop was asked for, how long the tunnel's clean end may take. */
const STOP_TIMEOUT_MS = 3_000;

await main();

async function main(): Promise<void> {
  let config: ClientConfig | undefined;
  try {
    config = parseClientConfig(process.argv.slice(2), process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`masque-vpn client: ${error.message}; help: node data-plane/client/main.ts --help\n`);
    process.exitCode = EXIT_BAD_CONFIG;
    return;
  }
  if (config === undefined) process.stdout.write(CLIENT_USAGE);
  else await run(config);
}

async function run(config: ClientConfig): Promise<void> {
  const log = createLogger('client', config.logLevel);
  const client = new VpnClient(config, log);
  const stop = (): void => {
    client.stop();
    setTimeout(() => process.exit(EXIT_FAILED), STOP_TIMEOUT_MS).unref();
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  try {
    await client.run();
  } catch (error) {
    log.fatal({ code: errorCode(error) }, describeError(error));
    process.exitCode = EXIT_FAILED;
  }
}
