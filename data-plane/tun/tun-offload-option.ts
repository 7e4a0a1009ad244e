/** How `TunOptions.offload` is written in configuration. */
export const tunOffload = {
  expected: 'auto or off',
  parse: (value: string): 'auto' | 'off' | undefined => (value === 'auto' || value === 'off' ? value : undefined),
};
