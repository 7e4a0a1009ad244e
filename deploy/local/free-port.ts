import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below the kernel's ephemeral ports (32768 and up): a server that is away for a moment finds its port as it left it, and whoever reconnects to
 * it meanwhile does not reach a stranger that the kernel gave the port to.
 */
const FIRST = 10_240;
const LAST = 32_767;
const ATTEMPTS = 100;

/** A TCP port that is free on `host`. Someone else may take it before it is used; callers retry. */
export async function freePort(host: string): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(FIRST, LAST + 1);
    if (await isFree(host, port)) return port;
  }
  throw new Error(`no free port on ${host} among ${ATTEMPTS} from ${FIRST} to ${LAST}`);
}

/** `preferred` where it is free, so that URLs stay the same from run to run; else any free one. */
export async function preferredPort(host: string, preferred: number): Promise<number> {
  return (await isFree(host, preferred)) ? preferred : freePort(host);
}

function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(false) : reject(error),
    );
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}
