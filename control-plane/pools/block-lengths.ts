import type { AddressFamily } from '../../shared/ip/address.ts';

/** Shortest and longest block of each family (ours): no node uses larger ones, and smaller ones have no room for a client. */
export const BLOCK_LENGTHS: Readonly<Record<AddressFamily, readonly [number, number]>> = { 4: [8, 30], 6: [32, 126] };

/** Where nobody says otherwise (ours): 61 clients, and 255. */
export const DEFAULT_BLOCK_LENGTH: Readonly<Record<AddressFamily, number>> = { 4: 26, 6: 120 };
