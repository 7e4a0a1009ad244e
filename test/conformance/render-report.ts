import { isAbout, type NamedTest } from './named-tests.ts';
import { INPUTS, ITEMS } from './requirements.ts';

interface Entry {
  readonly number: number;
  readonly heading: string;
  readonly tests: readonly NamedTest[];
}

/** The report: each requirement and the tests that name it, and first of all those that none does. */
export function renderReport(tests: readonly NamedTest[]): string {
  const items = ITEMS.map((one): Entry => {
    const where = one.sections.map((section) => `RFC ${section.replace('-', ', ')}`).join('; ');
    const side = one.side === 'both' ? '' : ` (${one.side})`;
    const heading = `${one.text}${side}${where === '' ? '' : `. ${where}`}`;
    return { number: one.number, heading, tests: tests.filter((test) => isAbout(test, one)) };
  });
  const inputs = INPUTS.map(({ number, text }): Entry => {
    return { number, heading: text, tests: tests.filter((test) => test.inputs.includes(number)) };
  });
  return `${[
    '# Conformance',
    '',
    'Made by `npm run conformance` from `requirements.ts` and the titles of all tests; a test says when it is out of date. A title names a',
    'requirement as `item 21` or by its section, as `9484-4.7.2`, and a malformed input as `input 25`. That a test is named here says that',
    'the requirement is tested, not that every word of it is.',
    '',
    summary('requirements', items),
    '',
    summary('malformed inputs', inputs),
    '',
    '## Requirements',
    ...section('item', items),
    '',
    '## Malformed inputs',
    ...section('input', inputs),
  ].join('\n')}\n`;
}

/** The numbers of those that no test names. */
export function untested(tests: readonly NamedTest[]): { readonly items: number[]; readonly inputs: number[] } {
  return {
    items: ITEMS.filter((one) => !tests.some((test) => isAbout(test, one))).map(({ number }) => number),
    inputs: INPUTS.filter(({ number }) => !tests.some(({ inputs }) => inputs.includes(number))).map(
      ({ number }) => number,
    ),
  };
}

function summary(what: string, entries: readonly Entry[]): string {
  const missing = entries.filter(({ tests }) => tests.length === 0);
  const tested = `**${entries.length - missing.length} of ${entries.length} ${what} have a test.**`;
  if (missing.length === 0) return tested;
  return [tested, 'Without one:', '', ...missing.map(({ number, heading }) => `- ${number}: ${heading}`)].join('\n');
}

function section(word: string, entries: readonly Entry[]): string[] {
  return entries.flatMap(({ number, heading, tests }) => [
    '',
    `### ${word} ${number}`,
    '',
    heading,
    '',
    ...(tests.length === 0 ? ['**No test yet.**'] : filesOf(tests)),
  ]);
}

function filesOf(tests: readonly NamedTest[]): string[] {
  return [...Map.groupBy(tests, ({ file }) => file)].flatMap(([file, named]) => [
    `- [${file}](../../${file})`,
    ...[...new Set(named.map(({ title }) => title))].map((title) => `  - ${escapeMarkdown(title)}`),
  ]);
}

function escapeMarkdown(title: string): string {
  return title.replace(/[\\`*_<>[\]]/g, '\\$&');
}
