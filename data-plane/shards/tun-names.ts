import { ConfigError } from '../../shared/config/parse-config.ts';
import type { NodeConfig } from '../config.ts';

/** Characters of an interface's name (IFNAMSIZ less the final 0). */
const MAX_NAME_LENGTH = 15;

/** The TUN interface of a shard: the kernel numbers `masque%d`, and `vpn` becomes `vpn-0`, `vpn-1` where there are several. */
export function tunNameOf(name: string, shard: number, shards: number): string {
  return shards === 1 || name.includes('%d') ? name : `${name}-${shard}`;
}

/** Throws ConfigError when the name leaves no room for the shards' numbers. */
export function checkTunName({ TUN_NAME, SHARDS }: Pick<NodeConfig, 'TUN_NAME' | 'SHARDS'>): void {
  const last = tunNameOf(TUN_NAME, SHARDS - 1, SHARDS);
  if (last.length <= MAX_NAME_LENGTH) return;
  const room = MAX_NAME_LENGTH - (last.length - TUN_NAME.length);
  throw new ConfigError(
    'TUN_NAME',
    TUN_NAME,
    `up to ${room} characters with ${SHARDS} SHARDS, whose interfaces are called ${TUN_NAME}-0 to ${last}, or a name with %d`,
  );
}
