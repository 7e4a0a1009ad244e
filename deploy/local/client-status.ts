import type { ClientStatus } from '../../data-plane/client/status-file.ts';
import { readIfPresent } from './secret-file.ts';

/** What the client process wrote last, or undefined before it wrote anything. */
export function readClientStatus(file: string): ClientStatus | undefined {
  const text = readIfPresent(file);
  return text === undefined ? undefined : (JSON.parse(text) as ClientStatus);
}
