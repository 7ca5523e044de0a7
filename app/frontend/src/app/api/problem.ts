/** Why a request failed: the kind of reason, and the API's own text if there is one. */

export type Kind =
  | 'offline' // no response
  | 'slow' // no response in time
  | 'unsure' // no response in time, so the change may or may not have been made
  | 'unloaded' // a part of the page itself did not come
  | 'signedOut'
  | 'forbidden'
  | 'missing'
  | 'invalid' // fields have what is wrong with each
  | 'conflict'
  | 'throttled'
  | 'unavailable'
  | 'failed';

const KINDS: Readonly<Record<number, Kind>> = {
  400: 'invalid',
  401: 'signedOut',
  403: 'forbidden',
  404: 'missing',
  409: 'conflict',
  429: 'throttled',
  // What a proxy answers without a backend.
  502: 'unavailable',
  503: 'unavailable',
  504: 'unavailable',
};

export class Problem extends Error {
  override readonly name = 'Problem';

  constructor(
    readonly kind: Kind,
    readonly code = '',
    readonly detail = '',
    readonly fields: Readonly<Record<string, readonly string[]>> = {},
    readonly retryAfter: number | null = null,
  ) {
    super(detail || kind);
  }
}

export function problemOf(status: number, body: unknown, retryAfter: string | null): Problem {
  const wait = Number(retryAfter);
  const kind = KINDS[status] ?? 'failed';
  const document = isRecord(body) ? body : {};
  return new Problem(
    kind,
    text(document['code']),
    text(document['detail']),
    kind === 'invalid' ? fieldsOf(document) : {},
    retryAfter !== null && Number.isFinite(wait) ? wait : null,
  );
}

/** Converts anything thrown to a problem. */
export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem('failed');
}

function fieldsOf(document: Record<string, unknown>): Record<string, string[]> {
  const lists = Object.entries(document).filter(([name]) => name !== 'detail' && name !== 'code');
  return Object.fromEntries(lists.map(([name, value]) => [name, Array.isArray(value) ? value.map(text) : []]));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
