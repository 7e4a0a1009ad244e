import { inNamespace } from '../../deploy/local/netns-topology.ts';
import type { BenchContext } from '../bench-context.ts';
import { runTool } from '../run-tool.ts';

const TIMEOUT_MS = 5_000;

/** Whether one ping from a namespace is answered within a second. */
export async function answersPing(context: BenchContext, namespace: string, address: string): Promise<boolean> {
  const text = await runTool(context, inNamespace(namespace, 'ping', ['-n', '-c1', '-W1', address]), TIMEOUT_MS);
  return text.includes(' 1 received');
}
