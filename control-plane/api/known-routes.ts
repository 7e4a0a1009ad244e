import type { Api } from './server.ts';

/** Every route with its methods that is added from now on, for who comes with another one. */
export class KnownRoutes {
  private readonly methods = new Map<string, Set<string>>();

  constructor(app: Api) {
    app.addHook('onRoute', ({ url, method }) => {
      const known = this.methods.get(url) ?? new Set();
      for (const one of [method].flat()) known.add(one);
      this.methods.set(url, known);
    });
  }

  /** Those without parameters. */
  get paths(): readonly string[] {
    return [...this.methods.keys()].filter((route) => !route.includes(':')).sort();
  }

  /** What is allowed for a path; nothing where there is none such. */
  allowed(path: string): readonly string[] {
    for (const [route, methods] of this.methods) if (matches(route, path)) return [...methods].sort();
    return [];
  }
}

/** Whether a path fits one with parameters, e.g. `/v1/clients/:id`. */
function matches(route: string, path: string): boolean {
  const parts = path.split('/');
  const wanted = route.split('/');
  return (
    parts.length === wanted.length &&
    wanted.every((part, i) => (part.startsWith(':') ? parts[i] !== '' : part === parts[i]))
  );
}
