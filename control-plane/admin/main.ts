import { randomBytes } from 'node:crypto';
import { ConfigError, EXIT_BAD_CONFIG, parseConfig } from '../../shared/config/parse-config.ts';
import { describeError, errorCode } from '../../shared/errors.ts';
import { isDatabaseUnavailable } from '../leader/database-unavailable.ts';
import { createDatabase, createPool } from '../storage/database.ts';
import { checkSchemaVersion } from '../storage/migrate.ts';
import { ADMIN_HELP, type AdminCommand, adminVariables, parseAdminCommand } from './admin-command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { commandLineActor } from './command-line-actor.ts';
import { deadLetterListCommand, deadLetterRetryCommand } from './dead-letter-command.ts';
import { ProgressPrinter } from './progress-printer.ts';
import { rebuildCommand } from './rebuild-command.ts';
import { verifyCommand } from './verify-command.ts';

const NAME = 'masque-vpn admin';
const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;

// What is under way goes on, whether a terminal or a pipe still takes its progress or not.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.exitCode = await main();

async function main(): Promise<number> {
  try {
    const command = parseAdminCommand(process.argv.slice(2));
    if (command === undefined) {
      process.stdout.write(ADMIN_HELP);
      return 0;
    }
    return await runOn(parseConfig(adminVariables, process.env).DATABASE_URL, command);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${NAME}: ${error.message}; help: npm run admin -- --help\n`);
    return EXIT_BAD_CONFIG;
  }
}

async function runOn(databaseUrl: string, command: AdminCommand): Promise<number> {
  const stopping = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort());
  const { signal } = stopping;
  const pool = createPool(databaseUrl, NAME, () => undefined);
  const database = createDatabase(pool);
  const progress = new ProgressPrinter(process.stderr);
  try {
    await checkSchemaVersion(database);
    const onProgress: CommandContext['onProgress'] = (what) => progress.show(what);
    const print = (line: string) => {
      progress.end();
      process.stdout.write(`${line}\n`);
    };
    const by = { actor: commandLineActor(), incarnation: randomBytes(16).toString('hex') };
    const { ok, text, json } = await run(command, { database, by, onProgress, print, signal });
    print(text);
    if (command.json) print(JSON.stringify({ ok, command: command.name, ...json }));
    return ok ? 0 : EXIT_FAILED;
  } catch (error) {
    progress.end();
    if (signal.aborted) {
      process.stderr.write(`${NAME}: interrupted\n`);
      return EXIT_INTERRUPTED;
    }
    const what = isDatabaseUnavailable(error) ? 'Postgres at DATABASE_URL is not reachable: ' : '';
    if (what === '' && errorCode(error) === undefined) throw error;
    process.stderr.write(`${NAME}: ${what}${describeError(error)}\n`);
    return EXIT_FAILED;
  } finally {
    await pool.end();
  }
}

function run(command: AdminCommand, context: CommandContext): Promise<CommandResult> {
  switch (command.name) {
    case 'rebuild':
      return rebuildCommand(command, context);
    case 'verify':
      return verifyCommand(command, context);
    case 'dead-letter list':
      return deadLetterListCommand(command, context);
    case 'dead-letter retry':
      return deadLetterRetryCommand(command, context);
    default:
      return command satisfies never;
  }
}
