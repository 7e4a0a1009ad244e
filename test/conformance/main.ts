import { writeFileSync } from 'node:fs';
import { collectNamedTests, REPORT_FILE } from './collect-report.ts';
import { renderReport, untested } from './render-report.ts';

/* npm run conformance: writes README.md beside this file. */

const tests = collectNamedTests();
writeFileSync(REPORT_FILE, renderReport(tests));
const { items, inputs } = untested(tests);
process.stdout.write(
  `${REPORT_FILE}\nwithout a test: items ${items.join(', ') || 'none'}; inputs ${inputs.join(', ') || 'none'}\n`,
);
