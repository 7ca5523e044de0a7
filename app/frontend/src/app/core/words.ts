/** Translates the API's errors: first by code, then by the known texts. */
import type { Problem } from '../api/problem';
import type { Phrases } from './phrases';
import { type Key, en } from './texts-en';

const KNOWN: readonly (readonly [RegExp, Key])[] = [
  [/^Unable to log in/, 'field.credentials'],
  [/^You already have a channel with this name/, 'field.duplicate'],
  [/^The sandbox is only available/, 'field.sandbox'],
  [/^Enter a valid URL/, 'field.address'],
  [/^The address must begin with https:\/\/$/, 'field.https'],
  [/^(This field may not be (blank|null)|This field is required|A webhook channel needs)/, 'field.required'],
  [/^This time is in the past/, 'field.past'],
  [/^This time is more than a year/, 'field.far'],
];

export function problemText(problem: Problem, phrases: Phrases): string {
  if (problem.kind === 'throttled' && problem.code !== 'quota_exceeded' && problem.retryAfter !== null) {
    return phrases.text('problem.throttledFor', { seconds: problem.retryAfter });
  }
  const coded = `problem.${problem.code}`;
  if (coded in en) return phrases.text(coded as Key);
  return phrases.text(`problem.${problem.kind}`);
}

/** The error of a field; the API's own text if it is not a known one. */
export function fieldText(problem: Problem | null, field: string, phrases: Phrases): string {
  const said = problem?.fields[field]?.[0] ?? '';
  const known = KNOWN.find(([pattern]) => pattern.test(said));
  return known ? phrases.text(known[1]) : said;
}
