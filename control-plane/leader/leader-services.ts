import type { NatsConnection } from 'nats';
import type { Logger } from '../../shared/log/logger.ts';
import { staticReleaseMessage, staticReleaseSubject } from '../../shared/nats/static-address-messages.ts';
import { blockReclaim, blockRpc } from '../blocks/block-rpc.ts';
import { BlockService } from '../blocks/block-service.ts';
import { CredentialProjector } from '../credentials/credential-projector.ts';
import { outboxPublisher } from '../outbox/outbox-publisher.ts';
import { afterDefaultPool } from '../pools/configured-pool.ts';
import type { PoolLayout } from '../pools/pool-aggregate.ts';
import { PoolService } from '../pools/pool-service.ts';
import { PoolUpkeep } from '../pools/pool-upkeep.ts';
import { presenceService } from '../presence/presence-service.ts';
import { Projector } from '../projector/projector.ts';
import { type Retention, retentionService } from '../retention/retention-service.ts';
import { staticAddressRpc } from '../static-addresses/static-address-rpc.ts';
import { StaticAddressService } from '../static-addresses/static-address-service.ts';
import type { Database } from '../storage/database.ts';
import type { LeaderService } from './leader-service.ts';

export interface LeaderServicesOptions {
  readonly database: Database;
  readonly incarnation: string;
  readonly nats: NatsConnection;
  /** Of the pool `default`. */
  readonly layout: PoolLayout;
  readonly leaseSeconds: number;
  readonly staticLeaseSeconds: number;
  readonly retention: Retention;
  readonly log: Logger;
}

/** Everything that the leader does during its term. */
export function createLeaderServices(options: LeaderServicesOptions): {
  services: LeaderService[];
  credentials: CredentialProjector;
  projector: Projector;
  upkeep: PoolUpkeep;
} {
  const { database, nats, layout, leaseSeconds, staticLeaseSeconds, incarnation, retention, log } = options;
  const decisions = { database, incarnation };
  const blocks = new BlockService({ ...decisions, leaseSeconds });
  const pools = new PoolService(decisions);
  const upkeep = new PoolUpkeep(database, nats, pools, log);
  const staticAddresses = new StaticAddressService({
    ...decisions,
    leaseSeconds: staticLeaseSeconds,
    askForRelease: (node, grant) => nats.publish(staticReleaseSubject(node), staticReleaseMessage.encode(grant)),
  });
  const credentials = new CredentialProjector(database, nats, log);
  const projector = new Projector({ database, nats, log });
  const services: LeaderService[] = [
    projector,
    outboxPublisher(database, nats, log),
    presenceService(nats, decisions, log),
    afterDefaultPool(pools, layout, blockRpc(nats, blocks, log), log),
    blockReclaim(blocks, log),
    staticAddressRpc(nats, staticAddresses, log),
    upkeep,
    credentials,
    retentionService(database, retention, log),
  ];
  return { services, credentials, projector, upkeep };
}
