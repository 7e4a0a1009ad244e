/** IFNAMSIZ less the final 0. */
const MAX_NAME_BYTES = 15;

/** What an interface can be called, by the kernel's rules; `%` only as the placeholder that it fills in. */
export const tunName = {
  expected: `an interface name of up to ${MAX_NAME_BYTES} bytes without blanks, "/", ":" and "%"; one %d lets the kernel number it`,
  parse: (name: string): string | undefined =>
    /^(?!\.{1,2}$)[^\s/:%]*(%d)?[^\s/:%]*$/.test(name) && name !== '' && Buffer.byteLength(name) <= MAX_NAME_BYTES
      ? name
      : undefined,
};
