import { expect, it } from 'vitest';

import { Problem, asProblem, problemOf } from './problem';

it('keeps the errors of each field', () => {
  const problem = problemOf(400, { name: ['Taken.', 'Too long.'], non_field_errors: ['No.'] }, null);
  expect(problem.kind).toBe('invalid');
  expect(problem.fields).toEqual({ name: ['Taken.', 'Too long.'], non_field_errors: ['No.'] });
});

it('keeps the code of the API', () => {
  const problem = problemOf(409, { detail: 'Posts are waiting.', code: 'posts_waiting' }, null);
  expect([problem.kind, problem.code, problem.detail]).toEqual(['conflict', 'posts_waiting', 'Posts are waiting.']);
});

it.each([
  [401, 'signedOut'], [403, 'forbidden'], [404, 'missing'], [429, 'throttled'], [502, 'unavailable'],
  [503, 'unavailable'], [500, 'failed'], [418, 'failed'],
])('%i is "%s"', (status, kind) => {
  expect(problemOf(status, '<html>', null).kind).toBe(kind);
});

it('reads the time to wait as a number or nothing', () => {
  expect(problemOf(429, {}, '12').retryAfter).toBe(12);
  expect(problemOf(429, {}, null).retryAfter).toBeNull();
  expect(problemOf(429, {}, 'Wed, 21 Oct').retryAfter).toBeNull();
});

it('treats anything else that is thrown as a failure', () => {
  expect(asProblem(new TypeError('x')).kind).toBe('failed');
  const mine = new Problem('offline');
  expect(asProblem(mine)).toBe(mine);
});
