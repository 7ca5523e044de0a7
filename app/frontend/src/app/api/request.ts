/** One request to the API. The types of path, parameters, body and response come from the schema. */
import { Problem, problemOf } from './problem';
import type { paths } from './schema';

export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';
export type PathOf<M extends Method> = {
  [P in keyof paths]: paths[P][M] extends object ? P : never;
}[keyof paths];

type Operation<P extends keyof paths, M extends Method> = paths[P][M];
type Json<T> = T extends { content: { 'application/json': infer B } } ? B : undefined;
type Parameters<O> = O extends { parameters: infer A extends { path?: unknown; query?: unknown } }
  ? Pick<A, 'path' | 'query'>
  : never;
type Body<O> = O extends { requestBody: infer B }
  ? { body: Json<B> }
  : O extends { requestBody?: infer B }
    ? { body?: Json<NonNullable<B>> }
    : never;
type Success<R> = { [S in keyof R]: S extends 200 | 201 | 202 | 204 ? Json<R[S]> : never }[keyof R];

export type Answer<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { responses: infer R } ? Success<R> : never;

/** Required where the schema requires them, and forbidden where it has none. */
export type Options<P extends keyof paths, M extends Method> = Parameters<Operation<P, M>> & Body<Operation<P, M>>;

interface Loose {
  path?: Readonly<Record<string, unknown>>;
  query?: Readonly<Record<string, unknown>>;
  body?: unknown;
}

const SAFE: readonly Method[] = ['get'];
const PATIENCE = 20_000;

export function addressOf(
  template: string,
  path: Readonly<Record<string, unknown>> = {},
  query: Readonly<Record<string, unknown>> = {},
): string {
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(path[name])));
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '');
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return given.length > 0 ? `${filled}?${search.toString()}` : filled;
}

export async function send<M extends Method, P extends PathOf<M>>(
  method: M,
  template: P,
  options: Options<P, M>,
  csrfToken: string,
): Promise<Answer<P, M>> {
  const { path, query, body: content } = options as Loose;
  const address = addressOf(template, path, query);
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (!SAFE.includes(method)) headers['X-CSRFToken'] = csrfToken;
  if (content !== undefined) headers['Content-Type'] = 'application/json';
  try {
    const answer = await fetch(address, {
      method: method.toUpperCase(),
      headers,
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(PATIENCE),
      ...(content === undefined ? {} : { body: JSON.stringify(content) }),
    });
    const body = await contentOf(answer);
    if (!answer.ok) throw problemOf(answer.status, body, answer.headers.get('Retry-After'));
    return body as Answer<P, M>;
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (!isTimeout(error)) throw new Problem('offline');
    throw new Problem(SAFE.includes(method) ? 'slow' : 'unsure');
  }
}

async function contentOf(answer: Response): Promise<unknown> {
  try {
    return answer.status === 204 ? undefined : await answer.json();
  } catch (error) {
    if (isTimeout(error)) throw error;
    if (answer.ok) throw new Problem('failed');
    return undefined;
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
