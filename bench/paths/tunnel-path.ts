import type { TopologyPlan } from '../../deploy/local/topology-plan.ts';
import type { PathName } from '../path-names.ts';

/** One way from a client's namespace to the node's, ready for packets. */
export interface TunnelPath {
  readonly name: PathName;
  /** Where its packets come from. */
  readonly clientNamespace: string;
  /** Of the node's end, as the client reaches it by this path. */
  readonly address: string;
  /** The processes that carry the packets; none for the raw link. */
  readonly pids: { readonly client: number; readonly server: number } | undefined;
}

/** The namespaces that all paths connect. */
export interface PathEnds {
  readonly client: TopologyPlan['clients'][number];
  readonly node: TopologyPlan['nodes'][number];
}
