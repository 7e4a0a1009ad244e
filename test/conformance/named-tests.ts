import type { Requirement } from './requirements.ts';

/** A test, or a group or table of them, that says in its title what it is about. */
export interface NamedTest {
  /** From the root of the repository. */
  readonly file: string;
  /** As it stands in the source: what is filled in when the test runs is `…`. */
  readonly title: string;
  readonly items: readonly number[];
  readonly inputs: readonly number[];
  /** E.g. `9484-4.7.2`. */
  readonly sections: readonly string[];
}

const STRING = /(['"`])((?:\\.|(?!\1)[^\\])*)\1/g;
const ITEMS = /\bitems? (\d{1,2}\b(?!-)(?:, \d{1,2}\b(?!-))*)/g;
const INPUTS = /\binputs? (\d{1,2}\b(?!-)(?:, \d{1,2}\b(?!-))*)/g;
const SECTION = /\b(\d{4}-\d+(?:\.\d+)*)\b/g;

/** The titles of one test file that name a requirement. They are found in the source, so nothing has to run for it. */
export function namedTests(file: string, source: string): NamedTest[] {
  return source.split('\n').flatMap((line) =>
    [...line.matchAll(STRING)].flatMap(([, , text = '']) => {
      const title = text.replace(/\\(['"`])/g, '$1').replace(/\$\{[^}]*\}/g, '…');
      const [items, inputs] = [ITEMS, INPUTS].map((list) => numbersOf(title, list));
      const sections = [...title.matchAll(SECTION)].map(([, section = '']) => section);
      const named = { file, title, items: items ?? [], inputs: inputs ?? [], sections };
      return named.items.length + named.inputs.length + sections.length > 0 ? [named] : [];
    }),
  );
}

/** Whether a test is about a requirement: by its number, or by a section that it has. */
export function isAbout(test: NamedTest, { number, sections }: Requirement): boolean {
  return test.items.includes(number) || test.sections.some((section) => sections.includes(section));
}

function numbersOf(title: string, list: RegExp): number[] {
  return [...title.matchAll(list)].flatMap(([, numbers = '']) => numbers.split(', ').map(Number));
}
