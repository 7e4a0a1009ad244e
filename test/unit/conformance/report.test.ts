import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { suite, type TestContext, test } from 'node:test';
import { collectNamedTests, REPORT_FILE } from '../../conformance/collect-report.ts';
import { type NamedTest, namedTests } from '../../conformance/named-tests.ts';
import { renderReport, untested } from '../../conformance/render-report.ts';
import { INPUTS, ITEMS } from '../../conformance/requirements.ts';

const naming = (changes: Partial<NamedTest>): NamedTest => ({
  file: 'test/a.test.ts',
  title: 'a title',
  items: [],
  inputs: [],
  sections: [],
  ...changes,
});

suite('the conformance report', () => {
  test('is what `npm run conformance` would write now', (t: TestContext) => {
    const tests = collectNamedTests();
    assert.ok(
      readFileSync(REPORT_FILE, 'utf8') === renderReport(tests),
      'test/conformance/README.md is out of date: npm run conformance',
    );
    const { items, inputs } = untested(tests);
    t.diagnostic(`without a test: items ${items.join(', ') || 'none'}; inputs ${inputs.join(', ') || 'none'}`);
  });

  test('no test names what does not exist', () => {
    const numbers = { items: ITEMS.map(({ number }) => number), inputs: INPUTS.map(({ number }) => number) };
    for (const { file, title, items, inputs } of collectNamedTests()) {
      assert.ok(
        items.every((number) => numbers.items.includes(number)),
        `${file}: ${title}`,
      );
      assert.ok(
        inputs.every((number) => numbers.inputs.includes(number)),
        `${file}: ${title}`,
      );
    }
  });

  test('requirements and inputs are numbered through, and a section is that of one requirement', () => {
    for (const list of [ITEMS, INPUTS]) {
      assert.deepEqual(
        list.map(({ number }) => number),
        list.map((_, i) => i + 1),
      );
    }
    const sections = ITEMS.flatMap((one) => one.sections);
    assert.equal(new Set(sections).size, sections.length);
  });

  test('titles are found in any quotes, and what is no name is left alone', () => {
    const source = [
      "test('item 21 an empty list', () => {});",
      'test(`items 10, 11, inputs 33, 34, 9484-4.6 target "$' + '{target}" -> $' + '{x}`, () => {});',
      `  ['input 7 it\\'s a setting', hex('21 7')],`,
      'test("nothing of this: 21, items, 10.99.0.0", () => {});',
    ].join('\n');
    assert.deepEqual(namedTests('f', source), [
      { file: 'f', title: 'item 21 an empty list', items: [21], inputs: [], sections: [] },
      {
        file: 'f',
        title: 'items 10, 11, inputs 33, 34, 9484-4.6 target "…" -> …',
        items: [10, 11],
        inputs: [33, 34],
        sections: ['9484-4.6'],
      },
      { file: 'f', title: "input 7 it's a setting", items: [], inputs: [7], sections: [] },
    ]);
  });

  test('what has no test is said at the top and at its place', () => {
    const tests = [
      ...ITEMS.slice(2).map(({ number }) => naming({ items: [number] })),
      naming({ sections: ['9114-6.2.1'], title: 'by_its section' }),
      ...INPUTS.map(({ number }) => naming({ inputs: [number] })),
    ];
    assert.deepEqual(untested(tests), { items: [1], inputs: [] });
    const report = renderReport(tests);
    assert.match(report, /40 of 41 requirements have a test\.\*\*\nWithout one:\n\n- 1: QUIC/);
    assert.equal(report.split('**No test yet.**').length, 2);
    assert.ok(report.includes('49 of 49 malformed inputs have a test.'));
    assert.ok(report.includes('  - by\\_its section'));
  });
});
