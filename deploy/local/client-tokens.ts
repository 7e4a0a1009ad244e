import { join } from 'node:path';
import { CodedError } from '../../shared/errors.ts';
import { HttpStatusError } from './http-client.ts';
import { readIfPresent, writePrivateFile } from './secret-file.ts';

type Api = <T>(method: string, path: string, body?: unknown) => Promise<T>;

/**
 * The clients' tokens by client id. The control plane shows a token once, when it enrols the client; it is kept in
 * `<directory>/<id>.token` (mode 0600) for later runs on the same data.
 */
export async function clientTokens(
  api: Api,
  directory: string,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const tokens = new Map<string, string>();
  for (const id of ids) {
    const file = join(directory, `${id}.token`);
    const kept = readIfPresent(file)?.trim();
    if (await isEnrolled(api, id)) {
      if (kept === undefined) {
        const why = `${id} is enrolled in the kept data, but its token file ${file} is gone`;
        throw new CodedError('TOKEN_LOST', `${why}; remove the data directory to start anew`);
      }
      tokens.set(id, kept);
    } else {
      const { token } = await api<{ token: string }>('POST', '/v1/clients', { id });
      writePrivateFile(file, `${token}\n`);
      tokens.set(id, token);
    }
  }
  return tokens;
}

async function isEnrolled(api: Api, id: string): Promise<boolean> {
  try {
    await api('GET', `/v1/clients/${id}`);
    return true;
  } catch (error) {
    if (error instanceof HttpStatusError && error.status === 404) return false;
    throw error;
  }
}
