export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

const SUFFIX = /_(bucket|sum|count)$/;

/** Prometheus' text format into families, strict enough to notice a line that does not belong to the family above it. */
export function parseExposition(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  const helps = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const head = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (head) {
      const [, kind, name = '', rest = ''] = head;
      if (kind === 'HELP') helps.set(name, rest);
      else if (families.has(name)) throw new Error(`family ${name} is there twice`);
      else families.set(name, { type: rest, help: helps.get(name) ?? '', samples: [] });
      continue;
    }
    const sample = parseSample(line);
    const current = [...families.keys()].at(-1);
    const family = families.get(sample.name) ?? families.get(sample.name.replace(SUFFIX, ''));
    if (!family || family !== families.get(current ?? '')) throw new Error(`line outside of its family: ${line}`);
    family.samples.push(sample);
  }
  return families;
}

function parseSample(line: string): Sample {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
  if (!match) throw new Error(`not a sample: ${line}`);
  const [, name = '', pairs = '', value = ''] = match;
  const labels: Record<string, string> = {};
  for (const [, label = '', text = ''] of pairs.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)) {
    labels[label] = text.replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
  }
  return { name, labels, value: value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value) };
}
