import { CodedError } from '../../shared/errors.ts';

/** Where RFC 9484 3 puts the service by default. */
export const DEFAULT_PATH_TEMPLATE = '/.well-known/masque/ip/{target}/{ipproto}/';

type VariableName = 'target' | 'ipproto';
type Segment = { readonly literal: string } | { readonly variable: VariableName };

/** A path whose segments are literals or one whole variable each. */
export interface PathTemplate {
  readonly text: string;
  readonly segments: readonly Segment[];
}

export class InvalidPathTemplateError extends CodedError {
  constructor(text: string, why: string) {
    super('INVALID_PATH_TEMPLATE', `"${text}" is not a path template: ${why}`);
  }
}

/** Compiles a template. Both variables are optional, each may appear once. Throws InvalidPathTemplateError. */
export function compilePathTemplate(text: string): PathTemplate {
  if (!text.startsWith('/')) throw new InvalidPathTemplateError(text, 'it must start with "/"');
  if (/[?#\s]/.test(text)) throw new InvalidPathTemplateError(text, 'it must be a path without query or fragment');
  const segments = text.split('/').map((segment): Segment => {
    if (segment === '{target}') return { variable: 'target' };
    if (segment === '{ipproto}') return { variable: 'ipproto' };
    if (!/[{}]/.test(segment)) return { literal: segment };
    throw new InvalidPathTemplateError(text, `"${segment}" is neither a literal nor {target} nor {ipproto}`);
  });
  const variables = segments.flatMap((segment) => ('variable' in segment ? [segment.variable] : []));
  if (new Set(variables).size < variables.length) throw new InvalidPathTemplateError(text, 'a variable comes twice');
  return { text, segments };
}

/**
 * The raw, still percent-encoded variables of a raw path, or undefined when it does not match. Segments are split
 * before anything is decoded, so an escaped slash stays inside its variable.
 */
export function matchPath(template: PathTemplate, path: string): { [Name in VariableName]?: string } | undefined {
  const parts = path.split('/');
  if (parts.length !== template.segments.length) return undefined;
  const variables: { [Name in VariableName]?: string } = {};
  for (const [index, segment] of template.segments.entries()) {
    const part = parts[index]!;
    if ('variable' in segment) variables[segment.variable] = part;
    else if (segment.literal !== part) return undefined;
  }
  return variables;
}
