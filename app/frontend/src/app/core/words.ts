/** The API's words in the language of the page: codes first, then the texts that it is known to say. */
import type { Problem } from '../api/problem';
import type { Phrases } from './phrases';
import { type Key, en } from './texts-en';

const KNOWN: readonly (readonly [RegExp, Key])[] = [
  [/^Unable to log in/, 'field.credentials'],
  [/^You have a channel of this name/, 'field.duplicate'],
  [/^The sandbox is not available/, 'field.sandbox'],
  [/^Enter a valid URL/, 'field.address'],
  [/^The address must begin with https:\/\/$/, 'field.https'],
  [/^(This field may not be (blank|null)|This field is required|A webhook channel needs)/, 'field.required'],
  [/^This time is past/, 'field.past'],
  [/^This time is more than a year/, 'field.far'],
];

export function problemText(problem: Problem, phrases: Phrases): string {
  if (problem.kind === 'throttled' && problem.retryAfter !== null) {
    return phrases.text('problem.throttledFor', { seconds: problem.retryAfter });
  }
  const coded = `problem.${problem.code}`;
  if (coded in en) return phrases.text(coded as Key);
  return phrases.text(`problem.${problem.kind}`);
}

/** What is wrong with a field; the API's own words when they are not known. */
export function fieldText(problem: Problem | null, field: string, phrases: Phrases): string {
  const said = problem?.fields[field]?.[0] ?? '';
  const known = KNOWN.find(([pattern]) => pattern.test(said));
  return known ? phrases.text(known[1]) : said;
}
