/** Ours: how long the hooks of a file that ran out of time may take, milliseconds. */
const MERCY_MS = 10_000;

// The runner counts a file that takes too long as failed, but waits for its process, which waits for what will never come.
setTimeout(() => {
  const kept = process.getActiveResourcesInfo().join(', ');
  process.stderr.write(`this file took too long, and so did its hooks afterwards; it is kept alive by: ${kept}\n`);
  process.kill(process.pid, 'SIGKILL');
}, Number(process.env.TEST_FILE_TIMEOUT_MS) + MERCY_MS).unref();
