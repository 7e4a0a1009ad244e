/** The ways that packets are sent, in the order of the tables. */
export const PATH_NAMES = ['raw', 'openvpn', 'wireguard-go', 'h3', 'h3-v6', 'h2'] as const;
export type PathName = (typeof PATH_NAMES)[number];
