import { createServer } from 'node:net';

/** A TCP port that the kernel says is free on `host`. Someone else may take it before it is used; callers retry. */
export async function freePort(host: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error(`no port on ${host}`);
  return address.port;
}

/** `preferred` where it is free, so that URLs stay the same from run to run; else any free one. */
export async function preferredPort(host: string, preferred: number): Promise<number> {
  return (await isFree(host, preferred)) ? preferred : freePort(host);
}

function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}
