/** What is longer is cut in messages (ours), characters. */
const MAX_SHOWN_LENGTH = 100;

/** A value that was refused, as messages show it: text in quotes, cut where it is long; of lists and objects nothing that is in them. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(cut(value));
}

/** What others wrote, as a part of a line on a terminal: what would move the cursor, or begin a line of its own, is shown as JSON has it. */
export function onOneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** A text, cut where it is too long for a message. */
export function cut(text: string): string {
  return text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}…` : text;
}
