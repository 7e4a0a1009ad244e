/** The actor of what is done with `ADMIN_TOKEN`. */
export const ADMIN_ACTOR = 'admin';
/** The actor of what the configuration says, e.g. `POOLS`. */
export const CONFIGURATION_ACTOR = 'configuration';
/** The actor of the control plane's own decisions. */
export const CONTROL_PLANE_ACTOR = 'control-plane';

/** Nobody else may act under these names, nor under one that reads the same. */
export const RESERVED_ACTORS: readonly string[] = [ADMIN_ACTOR, CONFIGURATION_ACTOR, CONTROL_PLANE_ACTOR];
