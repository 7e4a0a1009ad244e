import { parseArguments } from '../shared/config/parse-arguments.ts';
import { ConfigError, describeVariables, EXIT_BAD_CONFIG, parseConfig } from '../shared/config/parse-config.ts';
import { describeError, errorCode } from '../shared/errors.ts';
import { createLogger } from '../shared/log/logger.ts';
import { type NodeConfig, nodeVariables } from './config.ts';
import { Node } from './node.ts';
import { checkTunName } from './shards/tun-names.ts';
import { readTlsIdentity, type TlsIdentity } from './tls/tls-identity.ts';

const EXIT_FAILED = 1;

const USAGE = `usage: node data-plane/main.ts

A data-plane node of a masque-vpn cluster. It takes its configuration from the environment:

${describeVariables(nodeVariables)}
`;

await main();

async function main(): Promise<void> {
  let config: NodeConfig;
  let identity: TlsIdentity;
  try {
    if (parseArguments(process.argv.slice(2), {}) === undefined) {
      process.stdout.write(USAGE);
      return;
    }
    config = parseConfig(nodeVariables, process.env);
    checkTunName(config);
    identity = readTlsIdentity(config);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    refuse(error);
    return;
  }
  const log = createLogger(`node ${config.NODE_ID}`, config.LOG_LEVEL);
  let node: Node | undefined;
  try {
    node = new Node(config, identity, log);
    const asked = new Promise<void>((resolve) => {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        process.once(signal, () => {
          resolve();
          process.on(signal, () => node?.endDrain());
        });
      }
    });
    process.on('SIGHUP', () => node?.reloadCertificate());
    await node.start();
    await Promise.race([asked, node.failed]);
    log.info('stopping');
    await node.stop();
  } catch (error) {
    if (error instanceof ConfigError) {
      refuse(error);
    } else {
      log.fatal({ code: errorCode(error) }, describeError(error));
      process.exitCode = EXIT_FAILED;
    }
    await node?.close();
  }
  // A worker or a socket that does not end must not keep a stopped node alive.
  setTimeout(() => process.exit(), 1_000).unref();
}

function refuse({ message }: ConfigError): void {
  process.stderr.write(`masque-vpn node: ${message}; help: node data-plane/main.ts --help\n`);
  process.exitCode = EXIT_BAD_CONFIG;
}
