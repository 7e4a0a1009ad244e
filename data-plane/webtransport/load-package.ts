import { registerHooks } from 'node:module';
import { describeError, errorCode } from '../../shared/errors.ts';

type Package = typeof import('@fails-components/webtransport');

/** The optional package that carries sessions over HTTP/3, with a native library. */
export const NATIVE_TRANSPORT = '@fails-components/webtransport-transport-http3-quiche';

export interface LoadedPackage {
  readonly webTransport: Package;
  /** Why sessions over HTTP/3 are not served; null where they can be. */
  readonly http3Problem: string | null;
}

/** Loads the package, and its native transport where that is installed. Once a thread: it also changes what the package finds. */
export async function loadWebTransport(): Promise<LoadedPackage> {
  const http3Problem = await nativeTransportProblem();
  // The package prints to the console that it misses its native transport. The node says so itself, in its log.
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      http3Problem !== null && specifier === NATIVE_TRANSPORT
        ? { url: 'data:text/javascript,export {}', format: 'module', shortCircuit: true }
        : next(specifier, context),
  });
  const webTransport = await import('@fails-components/webtransport');
  await webTransport.quicheLoaded;
  hooks.deregister();
  return { webTransport, http3Problem };
}

async function nativeTransportProblem(): Promise<string | null> {
  try {
    await import(NATIVE_TRANSPORT);
    return null;
  } catch (error) {
    if (errorCode(error) === 'ERR_MODULE_NOT_FOUND') return `the package ${NATIVE_TRANSPORT} is not installed`;
    return describeError(error);
  }
}
